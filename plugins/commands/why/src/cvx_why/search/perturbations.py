"""Perturbed versions of one image: a runner that counts and judges them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cvx_core import Prediction, Requirements, VisionModel
from cvx_core.explainers import images_at_once, in_pieces
from cvx_core.images import PreparedImage
from cvx_core.recording import open_recording
from cvx_core.tasks import Judgement, Mistake

_TOGETHER = 16
"""More images at once are slower on a CPU, whose caches are full, and no faster on a GPU."""


class PassCounter:
    """Counter of the images that a network processes.

    Attributes
    ----------
    images
        Images in forward passes, whoever runs them.
    backward_passes
        Images for which a gradient was computed.
    """

    def __init__(self, model: VisionModel) -> None:
        self.model = model
        self.images = self.backward_passes = 0

    @contextmanager
    def attach(self) -> Iterator[PassCounter]:
        """Count within a context."""
        thread = threading.get_ident()

        def count(_module: Any, args: tuple[Any, ...]) -> None:
            # Another thread may run the same network, and inputs on "meta" only measure shapes.
            if threading.get_ident() == thread and not args[0].is_meta:
                self.images += len(args[0])

        handle = self.model.module.register_forward_pre_hook(count)
        try:
            yield self
        finally:
            handle.remove()


class PerturbationRunner:
    """Runs perturbed versions of an image and judges the mistake in each.

    Parameters
    ----------
    model
        The network.
    image
        The original image.
    mistake, prediction
        The mistake, and the prediction that contains it.
    passes
        An attached counter.
    limit
        Limit of `passes.images`, including those counted already.
    memory
        Memory budget for one batch, in bytes; None chooses it from the device.
    reserved
        Images of the limit that are kept for later steps. It may be changed.

    Attributes
    ----------
    at_once
        Images per batch.
    """

    def __init__(
        self,
        model: VisionModel,
        image: PreparedImage,
        mistake: Mistake,
        prediction: Prediction,
        passes: PassCounter,
        limit: int,
        memory: int | None = None,
        reserved: int = 0,
    ) -> None:
        self.model, self.image, self.mistake = model, image, mistake
        self.passes, self.limit, self.reserved = passes, limit, reserved
        self.inputs = image.tensor[None]
        self.seed = torch.from_numpy(prediction.resolve(mistake.target)[0])
        self.at_once = min(_TOGETHER, images_at_once(model, image.tensor, memory))

    @property
    def left(self) -> int:
        """Number of images that may still be run."""
        return max(0, self.limit - self.passes.images - self.reserved)

    def judge(self, inputs: Tensor) -> list[Judgement]:
        """Return the judgement of the mistake for each of the inputs (n, C, H, W)."""

        def run(start: int, stop: int) -> list[Judgement]:
            found = self.model.output(inputs[start:stop])
            predictions = self.model.predictions(found, [self.image.frame] * (stop - start))
            return [self.mistake.judge(one) for one in predictions]

        return [one for several in in_pieces(len(inputs), self.at_once, run) for one in several]

    def gradients(self, inputs: Tensor) -> Tensor:
        """Return the gradient of the margin at each of the inputs (n, C, H, W)."""

        def run(start: int, stop: int) -> Tensor:
            with open_recording(self.model, inputs[start:stop], Requirements("input")) as recording:
                seed = self.seed.to(recording.logits).expand_as(recording.logits)
                found = recording.gradients(seed, "input", missing="zero")[0]
                self.passes.backward_passes += stop - start
            return found

        return torch.cat([*in_pieces(len(inputs), self.at_once, run)])
