"""Probe of a model before a run: layers, shapes and features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cvx_core import InputError, LayerError, ModelError, VisionModel
from cvx_core.recording import Layer, Requirements, find_levels, find_trunk, open_recording
from cvx_core.tasks import DetectionOutput
from cvx_diagnose.data.sources import Source, TorchDataset
from cvx_diagnose.run.inference.last_layer import LastLayer

_SIZE, _SQUARES = (640, 480), (12, 16, 3)
_TRIED = 10


def probe_for_source(model: VisionModel, source: Source) -> dict[str, Any]:
    """Return what the plan says of a model, probed with noise or a data set's first tensors.

    Raises
    ------
    ModelError
        If the model fails on all of these.
    """
    failed: ModelError | None = None
    for tensor in _tensors(model, source):
        try:
            return probe_model(model, tensor)
        except ModelError as error:  # this input gets a row like any other
            failed = error
    if failed is not None:
        raise failed
    return probe_model(model, model.prepare(_noise())[0].tensor[None])


def _noise() -> Image.Image:
    """Return an image of random squares, the same every time.

    Noise of single pixels would be an even grey once it is made smaller, and a network may be
    silent on that.
    """
    colours = np.random.default_rng(0).integers(0, 256, _SQUARES, dtype=np.uint8)
    return Image.fromarray(colours).resize(_SIZE, Image.Resampling.NEAREST)


def _tensors(model: VisionModel, source: Source) -> Iterator[Tensor]:
    if not isinstance(source, TorchDataset):
        return
    for item, _ in zip(source.items(), range(_TRIED), strict=False):
        with suppress(InputError):
            image, _ = source.load(item)
            if not isinstance(image, torch.Tensor):
                return
            yield image[None].to(model.device, model.dtype)


def probe_model(model: VisionModel, image: Tensor) -> dict[str, Any]:
    """Return attributes of `cvx_diagnose.run.plan.Plan`, from an image like those of the run.

    Raises
    ------
    ModelError
        If the model fails on the image.
    """
    output = model.output(image)
    candidates = output.candidates if isinstance(output, DetectionOutput) else None
    linear = LastLayer.of(model, image) if model.task.exclusive else None
    map_layer = shape = channels = None
    note = ""
    layers: tuple[Layer, ...] = ()
    try:
        layers = find_levels(model, image)
        finest = max(layers, key=lambda layer: layer.grid[0] * layer.grid[1])
        map_layer, shape = ", ".join(layer.name for layer in layers), finest.grid
        channels = sum(_channels(layer) for layer in layers)
    except LayerError as error:
        note = f"No maps: {error.message}"
    if linear is not None:
        features = linear.name, linear.size, True
    elif channels is not None:
        features = f"{map_layer}, averaged over its spatial positions", channels, False
    else:
        features = "the logits", output.flat.shape[1], False
    fine = None
    if map_layer is not None and model.task.exclusive:
        fine = _fine(find_trunk(model, image))
    return {
        "outputs": output.classes,
        "map_layer": map_layer,
        "map_shape": shape,
        "map_features": channels,
        **dict(zip(("features", "features_size", "features_exact"), features, strict=True)),
        "fine_layer": None if fine is None else fine.name,
        "fine_features": None if fine is None else _channels(fine),
        "threshold": None if candidates is None else candidates.threshold,
        "overlap": None if candidates is None else candidates.overlap,
        "note": note,
    }


def _fine(trunk: tuple[Layer, ...]) -> Layer | None:
    """Return the last layer of the trunk's first resolution, or the middle one if all share it.

    Deeper layers have merged whatever leads to one class, so that two causes of one wrong
    prediction look alike there.
    """
    if not trunk:
        return None
    first = [layer for layer in trunk if layer.grid == trunk[0].grid]
    return first[-1] if len(first) < len(trunk) else trunk[len(trunk) // 2]


def _channels(layer: Layer) -> int:
    return layer.shape[-1 if layer.kind in ("channels-last", "tokens") else 0]


def predict_with_features(model: VisionModel, inputs: Tensor) -> tuple[Any, Tensor]:
    """Return the output for inputs (B, C, H, W), and the features (B, F) of `probe_model`."""
    if model.task.exclusive:
        linear = LastLayer.of(model, inputs)
        if linear is not None:
            return linear.read(model, inputs)
    try:
        layers = find_levels(model, inputs)
    except LayerError:
        found = model.output(inputs)
        return found, found.flat
    with open_recording(
        model, inputs, Requirements(*(layer.name for layer in layers))
    ) as recording:
        pooled = [recording.activation(layer.name).mean((2, 3)) for layer in layers]
        return recording.output, torch.cat(pooled, 1)
