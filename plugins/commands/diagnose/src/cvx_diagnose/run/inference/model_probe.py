"""What a run must know of a network before it begins: where maps are made, and how large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cvx_core import InputError, LayerError, ModelError, VisionModel
from cvx_core.recording import Layer, Requirements, find_levels, find_trunk, open_recording
from cvx_core.tasks import DetectionOutput
from cvx_diagnose.data.sources import DataSet, Source
from cvx_diagnose.run.inference.last_layer import LastLinear

_SIZE = (640, 480)
_TRIED = 10


@dataclass(frozen=True)
class Probed:
    """What was found out; see `cvx_diagnose.run.plan.Plan` for what it means."""

    outputs: int
    map_layer: str | None
    map_shape: tuple[int, int] | None
    map_features: int | None
    features: str
    features_size: int
    features_exact: bool
    fine_layer: str | None
    fine_features: int | None
    threshold: float | None
    overlap: float | None
    note: str


def probe_source(model: VisionModel, source: Source) -> Probed:
    """Return what a run must know, from noise, or from one of a data set's first tensors.

    Raises
    ------
    ModelError
        If the model fails on all of these.
    """
    failed: ModelError | None = None
    for tensor in _tensors(model, source):
        try:
            return probe(model, tensor)
        except ModelError as error:  # it is an input like any other, and will have its row
            failed = error
    if failed is not None:
        raise failed
    return probe(model, noise(model, _SIZE))


def _tensors(model: VisionModel, source: Source) -> Iterator[Tensor]:
    if not isinstance(source, DataSet):
        return
    for item, _ in zip(source.items(), range(_TRIED), strict=False):
        with suppress(InputError):
            image, _ = source.load(item)
            if not isinstance(image, torch.Tensor):
                return
            yield image[None].to(model.device, model.dtype)


def noise(model: VisionModel, size: tuple[int, int]) -> Tensor:
    """Return the network's input (1, C, H, W) for a photograph of noise, the same every time."""
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return model.prepare(Image.fromarray(values))[0].tensor[None]


def probe(model: VisionModel, image: Tensor) -> Probed:
    """Return what a run must know, from inputs like those that will come.

    Raises
    ------
    ModelError
        If the model fails on the image.
    """
    answered = model.output(image)
    outputs = answered.classes
    candidates = answered.candidates if isinstance(answered, DetectionOutput) else None
    linear = LastLinear.of(model, image) if model.task == "classification" else None
    layer = shape = channels = None
    note = ""
    places: tuple[Layer, ...] = ()
    try:
        places = find_levels(model, image)
        finest = max(places, key=lambda place: place.grid[0] * place.grid[1])
        layer, shape = ", ".join(place.name for place in places), finest.grid
        channels = sum(_channels(place) for place in places)
    except LayerError as error:
        note = f"There are no maps: {error.message}"
    if linear is not None:
        features = linear.name, linear.size, True
    elif channels is not None:
        features = f"{layer}, averaged over its cells", channels, False
    else:
        features = "the logits", answered.flat.shape[1], False
    fine = None
    if layer is not None and model.task == "classification":
        fine = _fine(find_trunk(model, image))
    name, count = (None, None) if fine is None else (fine.name, _channels(fine))
    threshold = None if candidates is None else candidates.threshold
    overlap = None if candidates is None else candidates.overlap
    found = (outputs, layer, shape, channels, *features, name, count)
    return Probed(*found, threshold, overlap, note)


def _fine(trunk: tuple[Layer, ...]) -> Layer | None:
    """Return the last place of the trunk's first resolution, or the middle one if all have that.

    Deep places have brought together whatever leads to one class, so that two causes of one wrong
    answer look alike there.
    """
    if not trunk:
        return None
    first = [place for place in trunk if place.grid == trunk[0].grid]
    return first[-1] if len(first) < len(trunk) else trunk[len(trunk) // 2]


def _channels(place: Layer) -> int:
    return {
        "maps": place.shape[0],
        "channels-last": place.shape[-1],
        "tokens": place.shape[-1],
        "channel-tokens": place.shape[0],
        "input": place.shape[0],
    }[place.kind]


def answers_and_features(model: VisionModel, inputs: Tensor) -> tuple[Any, Tensor]:
    """Return the reading of inputs (B, C, H, W), and features (B, F), as `probe` says."""
    if model.task == "classification":
        linear = LastLinear.of(model, inputs)
        if linear is not None:
            return linear.read(model, inputs)
    try:
        places = find_levels(model, inputs)
    except LayerError:
        found = model.output(inputs)
        return found, found.flat
    with open_recording(
        model, inputs, Requirements(*(place.name for place in places))
    ) as recording:
        pooled = [recording.activation(place.name).mean((2, 3)) for place in places]
        return recording.output, torch.cat(pooled, 1)
