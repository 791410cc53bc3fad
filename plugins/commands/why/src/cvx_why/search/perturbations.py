"""Trials: changed versions of one image, run through the network, counted and judged."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
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
"""More at once is slower on a processor, whose caches are full, and no faster elsewhere."""


class Passes:
    """Counts the images that go through a network while it is attached.

    Attributes
    ----------
    images
        How many went forward, whoever sent them.
    backwards
        For how many images a gradient was asked.
    """

    def __init__(self, model: VisionModel) -> None:
        self.model = model
        self.images = self.backwards = 0

    @contextmanager
    def counting(self) -> Iterator[Passes]:
        """Count for a while."""
        thread = threading.get_ident()

        def count(_module: Any, args: tuple[Any, ...]) -> None:
            # Another thread may run the same network now; shapes alone cost nothing.
            if threading.get_ident() == thread and not args[0].is_meta:
                self.images += len(args[0])

        handle = self.model.module.register_forward_pre_hook(count)
        try:
            yield self
        finally:
            handle.remove()


class Trials:
    """Runs changed versions of an image and says what became of its error.

    Parameters
    ----------
    model
        The network.
    image
        The image as it is.
    case, answer
        The error, and the answer that it was found in.
    passes
        The count, which is attached.
    most
        Images that may go through the network, the ones already counted among them.
    kept
        Images of these that are kept for what comes later, and can be changed.
    memory
        Bytes that may be held at once; None chooses from the device's memory.

    Attributes
    ----------
    at_once
        How many images may run together.
    """

    def __init__(
        self,
        model: VisionModel,
        image: PreparedImage,
        case: Mistake,
        answer: Prediction,
        passes: Passes,
        most: int,
        memory: int | None = None,
        kept: int = 0,
    ) -> None:
        self.model, self.image, self.case = model, image, case
        self.passes, self.most, self.kept = passes, most, kept
        self.inputs = image.tensor[None]
        self.seed = torch.from_numpy(answer.resolve(case.target)[0])
        self.at_once = min(_TOGETHER, images_at_once(model, image.tensor, memory))

    @property
    def left(self) -> int:
        """How many images may still be run."""
        return max(0, self.most - self.passes.images - self.kept)

    def judge(self, inputs: Tensor) -> list[Judgement]:
        """Return what each of the inputs (n, C, H, W) makes of the error."""

        def run(start: int, stop: int) -> list[Judgement]:
            found = self.model.output(inputs[start:stop])
            answers = self.model.predictions(found, [self.image.frame] * (stop - start))
            return [self.case.judge(answer) for answer in answers]

        return [one for several in in_pieces(len(inputs), self.at_once, run) for one in several]

    def gradients(
        self, inputs: Tensor, places: Sequence[str] = ("input",), *, frozen: bool = False
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return activation and gradient of the margin at each place, (n, C, h, w) both."""
        requirements = Requirements(*places, gates="frozen" if frozen else "native")

        def run(start: int, stop: int) -> list[tuple[Tensor, Tensor]]:
            with open_recording(self.model, inputs[start:stop], requirements) as recording:
                seed = self.seed.to(recording.logits).expand_as(recording.logits)
                raw = recording.gradients(seed, *places, missing="zero")
                found = [
                    (recording.activation(name), recording.layer(name).positions(gradient))
                    for name, gradient in zip(places, raw, strict=True)
                ]
                self.passes.backwards += stop - start
            return found

        pieces = list(in_pieces(len(inputs), self.at_once, run))
        return {
            name: (torch.cat([p[k][0] for p in pieces]), torch.cat([p[k][1] for p in pieces]))
            for k, name in enumerate(places)
        }
