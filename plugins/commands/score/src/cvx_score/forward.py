"""Run a model on images as it takes them, and read what it says of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from cvx_core import ModelError, UsageError, VisionModel
from cvx_core.explainers import images_at_once, in_pieces
from cvx_core.images import PreparedImage
from cvx_core.tasks import DetectionOutput, ModelOutput, Prediction

_REFUSAL = ("refuses channels last",)


def prepare(model: VisionModel, images: Any) -> list[PreparedImage]:
    """Return images as the network takes them, if they are not that already."""
    if isinstance(images, list) and images and all(isinstance(i, PreparedImage) for i in images):
        return images
    prepared = model.prepare(images)
    if not prepared:
        raise UsageError("There are no images.", "Give one or more.")
    return prepared


def in_shapes(images: Sequence[PreparedImage]) -> list[list[int]]:
    """Return the positions of images that can run together: neighbours of one shape."""
    positions = range(len(images))
    return [list(group) for _, group in groupby(positions, lambda i: images[i].tensor.shape)]


def at_once(model: VisionModel, image: Tensor, memory: int | None) -> int:
    """Return how many images (C, H, W) to run together.

    A processor's caches are full long before its memory is: more at once is slower there.
    """
    most = images_at_once(model, image, memory)
    return most if image.is_cuda else min(most, 16)


def answers(
    model: VisionModel, images: Sequence[PreparedImage]
) -> Iterator[tuple[ModelOutput, Prediction]]:
    """Yield what the network says of each image, as outputs of a batch of one and as an answer."""
    for chosen in in_shapes(images):
        inputs = torch.stack([images[i].tensor for i in chosen])
        frames = [images[i].frame for i in chosen]

        def run(
            start: int, stop: int, inputs: Tensor = inputs, frames: Any = frames
        ) -> list[tuple[ModelOutput, Prediction]]:
            found = _read(model, inputs[start:stop])
            resolved = model.predictions(found, frames[start:stop])
            return [(rows(found, k, k + 1), answer) for k, answer in enumerate(resolved)]

        for several in in_pieces(len(chosen), at_once(model, inputs[0], None), run):
            yield from several


def rows(answer: ModelOutput, start: int, stop: int) -> ModelOutput:
    """Return some of the images of a reading."""
    if not isinstance(answer, DetectionOutput):
        return ModelOutput(answer.scores[start:stop])
    one = answer.candidates
    part = replace(
        one,
        logits=one.logits[start:stop],
        boxes=one.boxes[start:stop],
        valid=None if one.valid is None else one.valid[start:stop],
    )
    return DetectionOutput(part.logits, part)


def layout(model: VisionModel) -> torch.memory_format:
    """Return how inputs should lie in memory: channels side by side, if the network takes that.

    Convolutions are up to twice as fast then; a network that views activations as rows of
    another layout refuses.
    """
    refused = _REFUSAL in model.facts.notes
    return torch.contiguous_format if refused else torch.channels_last


def _read(model: VisionModel, inputs: Tensor) -> ModelOutput:
    try:
        return model.output(inputs.contiguous(memory_format=layout(model)))
    except ModelError:
        model.facts.notes.add(_REFUSAL)
        return model.output(inputs)
