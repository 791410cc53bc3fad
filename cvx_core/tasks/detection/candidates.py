"""Candidates of a detector for a batch, before non-maximum suppression."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import register_pytree_node

from cvx_core.errors import ModelError
from cvx_core.tasks.outputs import ModelOutput


@dataclass(frozen=True, eq=False)
class DetectionCandidates:
    """Everything a detector considers, before it suppresses overlapping boxes.

    Attributes
    ----------
    logits
        (B, M, C): M candidates with a logit for each class.
    boxes
        (B, M, 4), or (B, M, C, 4) where each class has a box of its own: left, top, right,
        bottom in pixels of the network's input.
    exclusive
        Whether the scores are a softmax over the classes; otherwise each is its own sigmoid.
    background
        Index of the class that means "nothing there", or None.
    threshold
        Score above which a candidate is reported, in [0, 1].
    overlap
        Intersection over union above which the better of two boxes of a class suppresses the
        other, in [0, 1]; None for detectors that don't suppress.
    single
        Whether a candidate is reported with its best class alone.
    topk
        How many pairs of candidate and class go on to suppression, best first; None for all.
    topk_in
        Of what there are that many: of each ``"level"`` or of each ``"class"``.
    most
        Most boxes reported for an image.
    relative
        Whether the boxes are fractions of the input's sides.
    levels
        How many candidates each level of the pyramid has, in order; empty if unknown.
    clip
        Whether boxes are cut at the edges of the image when they are reported.
    valid
        (B, M), or (B, M, C) where each class has its own box: which candidates there are, where
        images have different numbers of them.
    """

    logits: Tensor
    boxes: Tensor
    exclusive: bool = False
    background: int | None = None
    threshold: float = 0.5
    overlap: float | None = 0.5
    single: bool = False
    topk: int | None = None
    topk_in: Literal["level", "class"] = "level"
    most: int = 100
    relative: bool = False
    levels: tuple[int, ...] = ()
    clip: bool = False
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.logits.shape)
        fits = self.logits.ndim == 3 and self.boxes.shape in ((*shape[:2], 4), (*shape, 4))
        if not fits:
            raise ModelError(
                f"Candidates have logits {shape} and boxes {tuple(self.boxes.shape)}.",
                "Logits are (B, M, C), and boxes (B, M, 4) or (B, M, C, 4).",
            )
        if self.levels and sum(self.levels) != shape[1]:
            raise ModelError(
                f"There are {shape[1]} candidates, and the levels {self.levels} have "
                f"{sum(self.levels)}.",
                "levels=(n1, n2, ...) says how many candidates each level has, in order.",
            )
        if self.valid is not None and self.valid.shape not in (shape[:2], shape):
            raise ModelError(
                f"Candidates have logits {shape} and valid {tuple(self.valid.shape)}.",
                "valid is (B, M) or (B, M, C).",
            )


def _tensors_and_settings(one: DetectionCandidates) -> tuple[list[Any], dict[str, Any]]:
    settings = dict(vars(one))
    return [settings.pop(name) for name in _TENSORS], settings


def _with_tensors(tensors: Iterable[Any], settings: dict[str, Any]) -> DetectionCandidates:
    return DetectionCandidates(**dict(zip(_TENSORS, tensors, strict=True)), **settings)


_TENSORS = ("logits", "boxes", "valid")
register_pytree_node(DetectionCandidates, _tensors_and_settings, _with_tensors)


@dataclass(frozen=True, eq=False)
class DetectionOutput(ModelOutput):
    """Parsed output of a detector for a batch.

    Attributes
    ----------
    candidates
        Everything it considers.
    """

    candidates: DetectionCandidates

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.scores.shape[2]

    @property
    def named(self) -> int:
        """How many of the classes have names: all but a last one that means "nothing there"."""
        return self.classes - (self.candidates.background == self.classes - 1)

    @property
    def flat(self) -> Tensor:
        """All logits and box sides (B, N), with their graph."""
        return torch.cat(self.parts, dim=1)

    @property
    def parts(self) -> tuple[Tensor, Tensor]:
        """All logits (B, M * C), and all box sides."""
        boxes = self.candidates.boxes.to(self.scores.dtype)
        return self.scores.flatten(1), boxes.flatten(1)

    @property
    def probabilities(self) -> Tensor:
        """Scores (B, M, C) in [0, 1], with their graph; 0 for the background and absent ones."""
        one = self.candidates
        scores = self.scores.softmax(2) if one.exclusive else self.scores.sigmoid()
        if one.background is not None:
            background = torch.arange(self.classes, device=scores.device) == one.background
            scores = scores.masked_fill(background, 0.0)
        if one.valid is not None:
            valid = one.valid if one.valid.ndim == 3 else one.valid[..., None]
            scores = scores.masked_fill(~valid, 0.0)
        return scores

    @property
    def meaning(self) -> Tensor:
        """Scores in [0, 1] and sides of the boxes (B, N), in the order of `flat`."""
        parts = (self.probabilities, self.candidates.boxes.to(self.scores.dtype))
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def rows(self, start: int, stop: int) -> DetectionOutput:
        """Return the output of some images of the batch."""
        one = self.candidates
        valid = None if one.valid is None else one.valid[start:stop]
        candidates = replace(
            one, logits=one.logits[start:stop], boxes=one.boxes[start:stop], valid=valid
        )
        return DetectionOutput(candidates.logits, candidates)

    def detached(self) -> DetectionOutput:
        """Return the output without its graph."""
        logits, boxes = self.candidates.logits.detach(), self.candidates.boxes.detach()
        candidates = replace(self.candidates, logits=logits, boxes=boxes)
        return DetectionOutput(candidates.logits, candidates)
