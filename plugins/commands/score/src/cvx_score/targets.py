"""Targets of images, and the quantity by which perturbed versions are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from cvx_core.images import Box, MaskRegion, PreparedImage, Region
from cvx_core.plugins import check_choice
from cvx_core.tasks import (
    ClassRef,
    GroundTruth,
    ModelOutput,
    Seed,
    TargetRecord,
    as_target as read_target,
    labels_per_image,
)
from cvx_score.forward import predict_each

Quantity = Literal["probability", "logit"]
QUANTITIES = ("probability", "logit")
Targets = Target | ClassRef | Sequence[Target | ClassRef] | None
Labels = GroundTruth | Sequence[GroundTruth | None] | None


@dataclass(frozen=True, eq=False)
class MeasuredTarget:
    """A target of one image, with the quantity to measure.

    Attributes
    ----------
    image
        The prepared image.
    seed
        (N,) over all outputs, on the model's device.
    record
        The record of the target.
    quantity
        ``"probability"`` of the target class, or the seeded ``"logit"``.
    index
        The target class, or None if the target is not one class.
    probability
        The probability of what the target is about, as a function of outputs; see
        `cvx_core.Task.probability_of`. None if it has none.
    """

    image: PreparedImage
    seed: Tensor
    record: TargetRecord
    quantity: Quantity
    index: int | None
    probability: Callable[[ModelOutput], Tensor] | None

    def values(self, output: ModelOutput) -> Tensor:
        """Return the quantity (n,) for the outputs of perturbed versions of the image."""
        if self.quantity == "logit":
            flat = output.flat
            if flat.shape[1] != len(self.seed):
                raise MethodError(
                    f"The model returned {flat.shape[1]} outputs for a perturbed image, and "
                    f"{len(self.seed)} for the original.",
                    "Use quantity='probability'.",
                )
            return flat.double() @ self.seed
        assert self.probability is not None
        return self.probability(output)

    def is_predicted(self, output: ModelOutput) -> Tensor:
        """Return 1 where a classifier predicts the target class, otherwise 0, (n,); else nan."""
        if output.scores.ndim != 2 or self.index is None:
            return torch.full((len(output.scores),), float("nan")).to(self.seed)
        return (output.scores.argmax(1) == self.index).to(self.seed)


def resolve_targets(
    model: VisionModel,
    images: Sequence[PreparedImage],
    target: Targets = None,
    label: Labels = None,
    quantity: Quantity | None = None,
) -> list[MeasuredTarget]:
    """Resolve the target of each image against its prediction.

    Parameters
    ----------
    target
        A target, or a class by name or index; one for all images or one for each. None takes the
        predicted class.
    label
        The ground truth, for targets that require it.
    quantity
        None takes the probability if the target is one class, otherwise the logit.

    Raises
    ------
    MethodError
        If a probability is requested for a target that is not one class.
    """
    if quantity is not None:
        check_choice("quantity", quantity, QUANTITIES)
    targets = [as_target(one) for one in per_image(target, len(images), "targets", str)]
    labels = read_labels(model, label, images)
    found = []
    for i, (output, prediction) in enumerate(predict_each(model, images)):
        seed, record = prediction.resolve(targets[i], labels[i])
        found.append(_measured_target(model, images[i], output, seed, record, quantity))
    return found


def read_labels(
    model: VisionModel, label: Labels, images: Sequence[PreparedImage]
) -> list[GroundTruth | None]:
    """Return the ground truth of each image; see `cvx_core.explain` for the forms of labels."""
    names = [(one.source.path, one.source.name) for one in images]
    return labels_per_image(model.task, label, names, model.classes)


def per_image(value: Any, count: int, what: str, *single: type) -> list[Any]:
    """Return one value for each image, from one for all or a sequence.

    Raises
    ------
    UsageError
        If the number of values and images differ.
    """
    if isinstance(value, single) or not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise UsageError(
            f"There are {count} images and {len(value)} {what}.",
            "Give one for all images, or one for each.",
        )
    return list(value)


def target_of(record: TargetRecord) -> Target:
    """Return the target of an explanation from its record.

    Raises
    ------
    TargetError
        If the record does not determine it.
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
        return kind(record.truth or (None if record.label is None else record.label.index))
    raise TargetError(
        f"The record of an explanation of kind {record.kind!r} does not determine its target.",
        "Pass target=...",
    )


def as_target(given: Target | ClassRef | None) -> Target:
    """Return a target, also of a class or text; see `cvx_core.tasks.as_target`."""
    return Predicted() if given is None else read_target(given)


def _measured_target(
    model: VisionModel,
    image: PreparedImage,
    output: ModelOutput,
    seed: Seed,
    record: TargetRecord,
    quantity: Quantity | None,
) -> MeasuredTarget:
    if not np.any(seed):
        raise MethodError(
            f"The target {record.text!r} of {image.source.name} has a zero seed.",
            "Use a class as the target, or omit the image.",
        )
    flat = torch.from_numpy(np.asarray(seed, dtype=np.float64)).to(output.scores.device)
    probability = model.task.probability_of(flat, output)
    if quantity == "probability" and probability is None:
        raise MethodError(
            f"{record.text!r} is not one class and has no probability.",
            "Use quantity='logit', or a class as the target.",
        )
    chosen: Quantity = quantity or ("logit" if probability is None else "probability")
    index = record.classes[0].index if model.task.exclusive and probability else None
    return MeasuredTarget(image, flat, record, chosen, index, probability)


def region_masks(regions: Any, prepared: Sequence[PreparedImage]) -> list[np.ndarray[Any, Any]]:
    """Return the pixels (H, W) of each input that lie in its region."""
    box = isinstance(regions, tuple) and all(isinstance(side, int | float) for side in regions)
    several = [regions] * len(prepared) if box else per_image(regions, len(prepared), "regions")
    return [
        _region(region).on_grid(one.frame, (one.tensor.shape[1], one.tensor.shape[2]))
        for region, one in zip(several, prepared, strict=True)
    ]


def _region(given: Any) -> Region:
    if isinstance(given, Region):
        return given
    if isinstance(given, list | tuple) and len(given) == 4:
        return Box(*map(float, given))
    return MaskRegion(np.asarray(given))
