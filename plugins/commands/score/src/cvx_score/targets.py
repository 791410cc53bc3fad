"""A question about an image, and the number that a changed image's answer is measured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cvx_core import (
    ClassScore,
    Contrast,
    Distribution,
    Error,
    Margin,
    MethodError,
    Predicted,
    Target,
    TargetError,
    UsageError,
    VisionModel,
    parse_target,
)
from cvx_core.images import PreparedImage
from cvx_core.plugins import check_choice
from cvx_core.tasks import (
    ClassRef,
    DetectionCandidates,
    DetectionOutput,
    GroundTruth,
    GroundTruthBoxes,
    GroundTruthMask,
    ModelOutput,
    Seed,
    TargetRecord,
)
from cvx_score.forward import answers

Quantity = Literal["probability", "logit"]
QUANTITIES = ("probability", "logit")
Questions = Target | ClassRef | Sequence[Target | ClassRef] | None
Truths = GroundTruth | Sequence[GroundTruth | None] | None


@dataclass(frozen=True, eq=False)
class Asked:
    """A question about one image.

    Attributes
    ----------
    image
        As the network takes it.
    seed
        (N,) over all outputs, on the model's device.
    record
        What is asked, and the answer.
    quantity
        ``"probability"`` of the class asked about, or the seeded ``"logit"``.
    index
        The class asked about, or None where it is not one.
    weights
        What of the outputs of that class counts: (h, w) of a segmenter, summing to 1; for a
        detector the candidate's box (4,), in pixels of the network's input.
    """

    image: PreparedImage
    seed: Tensor
    record: TargetRecord
    quantity: Quantity
    index: int | None
    weights: Tensor | None

    def values(self, answer: ModelOutput) -> Tensor:
        """Return the quantity (n,) for answers to changed versions of the image."""
        if self.quantity == "logit":
            flat = answer.flat
            if flat.shape[1] != len(self.seed):
                raise MethodError(
                    f"The model gave {flat.shape[1]} outputs for a changed image and "
                    f"{len(self.seed)} for the image itself.",
                    "Measure its probability: quantity='probability'.",
                )
            return flat.double() @ self.seed
        if isinstance(answer, DetectionOutput):
            return _best_of_box(answer.candidates, self.weights, self.index)
        found = answer.scores.double().softmax(1)[:, self.index]
        return found if self.weights is None else (found * self.weights).sum(dim=(1, 2))

    def first(self, answer: ModelOutput) -> Tensor | None:
        """Return whether a classifier's first answer is the class asked about, (n,)."""
        if answer.scores.ndim != 2 or self.index is None:
            return None
        return answer.scores.argmax(1) == self.index


def ask(
    model: VisionModel,
    images: Sequence[PreparedImage],
    target: Questions = None,
    label: Truths = None,
    quantity: Quantity | None = None,
) -> list[Asked]:
    """Put a question to each image as it is.

    Parameters
    ----------
    target
        A target, or a class by name or index; one for all images or one for each. None asks
        about the predicted class.
    label
        The truth, for questions that compare with it.
    quantity
        None takes the probability where one class is asked about, and the logit elsewhere.

    Raises
    ------
    MethodError
        If a probability is wanted of a question that is not about one class.
    """
    if quantity is not None:
        check_choice("quantity", quantity, QUANTITIES)
    targets = [as_target(one) for one in per_image(target, len(images), "targets", str)]
    labels = per_image(label, len(images), "labels", str)
    found = []
    for i, (answer, resolved) in enumerate(answers(model, images)):
        seed, record = resolved.resolve(targets[i], labels[i])
        found.append(_asked(images[i], answer, seed, record, quantity))
    return found


def per_image(value: Any, count: int, what: str, *single: type) -> list[Any]:
    """Return one value for each image: the one for all, or those of a sequence.

    Raises
    ------
    UsageError
        If there are as many as neither.
    """
    whole = isinstance(value, (*single, GroundTruthMask, GroundTruthBoxes))
    if whole or not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise UsageError(
            f"There are {count} images and {len(value)} {what}.",
            "Give one for all images, or one for each.",
        )
    return list(value)


def target_of(record: TargetRecord) -> Target:
    """Return the question that an explanation answers.

    Raises
    ------
    TargetError
        If its record does not hold enough to ask again.
    """
    classes = [entry.index for entry in record.classes]
    if record.asked:
        return parse_target(record.asked)
    if record.kind == "predicted":
        return Predicted()
    if record.kind == "class":
        return ClassScore(classes[0])
    if record.kind == "contrast":
        return Contrast(*classes)
    if record.kind == "distribution":
        return Distribution()
    if record.kind in ("error", "margin"):
        kind = Error if record.kind == "error" else Margin
        return kind(None if record.label is None else record.label.index)
    raise TargetError(
        f"An explanation of the kind {record.kind!r} does not hold its question.",
        "Pass the question: target=...",
    )


def as_target(given: Target | ClassRef | None) -> Target:
    """Return a question: a target as it is, a class as a question about it."""
    if given is None:
        return Predicted()
    return given if isinstance(given, Target) else ClassScore(given)


def _asked(
    image: PreparedImage,
    answer: ModelOutput,
    seed: Seed,
    record: TargetRecord,
    quantity: Quantity | None,
) -> Asked:
    if not np.any(seed):
        raise MethodError(
            f"The question {record.text!r} about {image.source.name} has a zero seed, so that "
            "nothing can change it.",
            "Ask about a class, or leave the image out.",
        )
    flat = torch.from_numpy(np.asarray(seed, dtype=np.float64)).to(answer.scores.device)
    index, weights = _one_class(answer, flat)
    if quantity == "probability" and index is None:
        raise MethodError(
            f"{record.text!r} is not about one class, so that it has no probability.",
            "Measure the logit: quantity='logit'; or ask about a class.",
        )
    chosen: Quantity = quantity or ("logit" if index is None else "probability")
    return Asked(image, flat, record, chosen, index, weights)


def _one_class(answer: ModelOutput, seed: Tensor) -> tuple[int | None, Tensor | None]:
    """Return the class that a seed asks about, and which of its outputs; None if not one class."""
    shape = answer.scores.shape[1:]
    scores, rest = seed[: shape.numel()].view(shape), seed[shape.numel() :]
    dimension = 1 if isinstance(answer, DetectionOutput) else 0
    others = [d for d in range(scores.ndim) if d != dimension]
    used = (scores != 0).sum(dim=others) if others else (scores != 0)
    classes = used.nonzero().flatten()
    if len(classes) != 1 or bool((seed < 0).any()) or bool(rest.any()):
        return None, None
    index = int(classes[0])
    if isinstance(answer, DetectionOutput):
        which = scores[:, index].nonzero().flatten()
        if len(which) != 1:
            return None, None
        boxes = _boxes(answer.candidates, index)
        return index, boxes[0, int(which[0])]
    return index, None if not others else scores[index] / scores[index].sum()


def _boxes(candidates: DetectionCandidates, index: int) -> Tensor:
    boxes = candidates.boxes
    return (boxes if boxes.ndim == 3 else boxes[:, :, index]).double()


def _best_of_box(candidates: DetectionCandidates, box: Tensor | None, index: int | None) -> Tensor:
    """Return how well an object is still found, (n,): the best of overlap times score.

    Over all candidates, because which candidate an object is may change with the image
    (D-RISE: Petsiuk et al. 2021, arXiv:2006.03204, without its similarity of class vectors).
    """
    assert box is not None
    assert index is not None
    logits, boxes = candidates.logits.double(), _boxes(candidates, index)
    scores = logits.softmax(2) if candidates.exclusive else logits.sigmoid()
    low, high = torch.maximum(boxes[..., :2], box[:2]), torch.minimum(boxes[..., 2:], box[2:])
    shared = (high - low).clamp_min(0).prod(2)
    areas = (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(2)
    whole = areas + (box[2:] - box[:2]).clamp_min(0).prod() - shared
    found = scores[..., index] * torch.where(whole > 0, shared / whole, 0.0)
    if candidates.valid is not None:
        valid = candidates.valid
        found = found * (valid if valid.ndim == 2 else valid[..., index])
    return found.amax(1)
