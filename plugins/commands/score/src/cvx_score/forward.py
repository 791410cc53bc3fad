"""Forward passes over prepared images, and their predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from cvx_core import ModelError, UsageError, VisionModel
from cvx_core.explainers import images_at_once, in_pieces
from cvx_core.images import PreparedImage
from cvx_core.tasks import ModelOutput, Prediction

_REFUSAL = ("refuses channels last",)


def prepare(model: VisionModel, images: Any) -> list[PreparedImage]:
    """Prepare images, unless they are prepared already."""
    if isinstance(images, list) and images and all(isinstance(i, PreparedImage) for i in images):
        return images
    prepared = model.prepare(images)
    if not prepared:
        raise UsageError("images is empty.", "Pass one or more.")
    return prepared


def check_count(maps: Sequence[Any], images: Sequence[Any]) -> None:
    """Check that there is one map for each image."""
    if len(maps) != len(images):
        raise UsageError(
            f"There are {len(images)} images and {len(maps)} maps.", "Give one for each."
        )


def in_shapes(images: Sequence[PreparedImage]) -> list[list[int]]:
    """Return the indices of images that can run together: neighbors of one shape."""
    indices = range(len(images))
    return [list(group) for _, group in groupby(indices, lambda i: images[i].tensor.shape)]


def at_once(model: VisionModel, image: Tensor, memory: int | None) -> int:
    """Return the number of images (C, H, W) per batch.

    On a CPU, larger batches exceed the caches and are slower.
    """
    most = images_at_once(model, image, memory)
    return most if image.is_cuda else min(most, 16)


def predict_each(
    model: VisionModel, images: Sequence[PreparedImage]
) -> Iterator[tuple[ModelOutput, Prediction]]:
    """Yield the output, as a batch of one, and the prediction of each image."""
    for chosen in in_shapes(images):
        inputs = torch.stack([images[i].tensor for i in chosen])
        frames = [images[i].frame for i in chosen]

        def run(
            start: int, stop: int, inputs: Tensor = inputs, frames: Any = frames
        ) -> list[tuple[ModelOutput, Prediction]]:
            found = _read(model, inputs[start:stop])
            predictions = model.predictions(found, frames[start:stop])
            return [(found.rows(k, k + 1), one) for k, one in enumerate(predictions)]

        for several in in_pieces(len(chosen), at_once(model, inputs[0], None), run):
            yield from several


def layout(model: VisionModel) -> torch.memory_format:
    """Return the memory format of inputs: channels last, if the network accepts it.

    Convolutions are up to twice as fast with it. A network that calls `view` on activations may
    fail.
    """
    refused = _REFUSAL in model.facts.notes
    return torch.contiguous_format if refused else torch.channels_last


def _read(model: VisionModel, inputs: Tensor) -> ModelOutput:
    try:
        return model.output(inputs.contiguous(memory_format=layout(model)))
    except ModelError:
        model.facts.notes.add(_REFUSAL)
        return model.output(inputs)
