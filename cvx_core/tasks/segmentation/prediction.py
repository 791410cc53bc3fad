"""Prediction of a segmenter for one image: a logit for each class at each output pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core.errors import TargetError
from cvx_core.images.regions import Frame, Mask, Point, Region, mask_region
from cvx_core.tasks.classes import ClassEntry, ClassRef, TargetRecord, background
from cvx_core.tasks.ground_truth import GroundTruthMask
from cvx_core.tasks.prediction import Prediction, Resolved, Seed, check_finite


@dataclass(frozen=True, eq=False)
class SegmentationPrediction(Prediction):
    """Prediction of a segmenter for one image.

    `Predicted` sums the logits of the class with most pixels (except background, if there is
    another) over the pixels where it is predicted; `ClassScore` and `Contrast` do so for their
    class; `Distribution`, `Error` and `Margin` sum over all pixels. As sums, the maps of disjoint
    regions add up to that of their union.

    Parameters
    ----------
    logits
        (C, h, w), float64.
    classes
        Names by index, or None.
    frame
        How the network's input lies over the image.

    Raises
    ------
    ModelError
        If a logit is not finite.
    """

    logits: npt.NDArray[np.float64]
    classes: Sequence[str] | None = None
    frame: Frame = field(default_factory=lambda: Frame((0.0, 0.0, 1.0, 1.0), (1, 1)))

    task = "segmentation"
    own_targets = "Targets of regions and pixels need a segmenter; give a class."

    def __post_init__(self) -> None:
        check_finite(self.logits, "logits")

    @property
    def outputs(self) -> npt.NDArray[np.float64]:
        """All logits (C * h * w,)."""
        return self.logits.reshape(-1)

    @property
    def count(self) -> int:
        """How many classes there are."""
        return int(self.logits.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the grid of outputs."""
        return self.logits.shape[1], self.logits.shape[2]

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Softmax over the classes, (C, h, w)."""
        shifted = np.exp(self.logits - self.logits.max(0))
        return np.asarray(shifted / shifted.sum(0))

    @cached_property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Index of the largest logit at each pixel, (h, w)."""
        return np.asarray(self.logits.argmax(0))

    def where(self, index: int) -> Mask:
        """Return the pixels (h, w) where a class is predicted.

        Raises
        ------
        TargetError
            If there are none.
        """
        found = self.predicted == index
        if not found.any():
            here = [self.name(int(c)) for c in np.unique(self.predicted)]
            raise TargetError(
                f"No pixel is predicted to be {self.name(index)!r}.",
                f"Predicted: {', '.join(here[:10])}. Use a region: region LEFT,TOP,RIGHT,"
                f"BOTTOM {self.name(index)}.",
            )
        return np.asarray(found)

    def seed(self, weights: npt.NDArray[np.float64] | Mask, index: int, *minus: int) -> Seed:
        """Return the seed that sums a class's logits (less others') over weighted pixels (h, w)."""
        seed = np.zeros_like(self.logits)
        seed[index] += weights
        for other in minus:
            seed[other] -= weights
        return seed.reshape(-1)

    def entry(self, index: int, region: Mask) -> ClassEntry:
        """Return a class with its mean logit and mean probability in a region (h, w)."""
        return ClassEntry(
            index,
            self.name(index),
            float(self.logits[index][region].mean()),
            float(self.probabilities[index][region].mean()),
        )

    def record(
        self,
        kind: str,
        text: str,
        seed: Seed,
        region: Mask,
        classes: Sequence[int] = (),
        signs: Sequence[float] = (),
        label: int | None = None,
        note: str = "",
        box: tuple[float, float, float, float] | None = None,
    ) -> TargetRecord:
        """Describe a resolved target; classes come with their means over the region."""
        means = self.probabilities[:, region].mean(1)
        order = np.argsort(-means, kind="stable")[:5]
        most = int(np.bincount(self.predicted[region], minlength=self.count).argmax())
        return TargetRecord(
            kind=kind,
            text=text,
            score=self.value(seed),
            probability=float(means[classes[0]]) if len(classes) == 1 else None,
            classes=tuple(self.entry(index, region) for index in classes),
            signs=tuple(float(sign) for sign in signs),
            predicted=self.entry(most, region),
            label=None if label is None else self.entry(label, region),
            top=tuple(self.entry(int(index), region) for index in order),
            correct=None if label is None else label == most,
            note=note or f"Logits are summed over {int(region.sum())} of {region.size} pixels.",
            box=box,
        )

    def resolve_predicted(self, label: Any) -> Resolved:
        """Return the seed of the foremost class where it is predicted."""
        c = self._foremost()
        return self._about("predicted", f"why {self.name(c)}?", self.where(c), c)

    def resolve_class(self, reference: ClassRef, label: Any) -> Resolved:
        """Return the seed of a class where it is predicted."""
        c = self.find(reference)
        text = f"what supports {self.name(c)}?"
        return self._about("class", text, self.where(c), c)

    def resolve_contrast(self, p: ClassRef, q: ClassRef, label: Any) -> Resolved:
        """Return the seed of a class less another, where the first is predicted."""
        first, second = self.find_two(p, q)
        text = f"why {self.name(first)} rather than {self.name(second)}?"
        return self._about("contrast", text, self.where(first), first, second)

    def resolve_region(
        self, region: Region, reference: ClassRef | None, against: ClassRef | None, label: Any
    ) -> Resolved:
        """Return the seed that sums a class's logits (less another's) over a region.

        Raises
        ------
        TargetError
            If a class is unknown, or the network doesn't see the region.
        """
        inside = region.on_grid(self.frame, self.shape)
        if reference is None:
            counts = np.bincount(self.predicted[inside], minlength=self.count)
            classes = [int(counts.argmax())]
        else:
            classes = [self.find(reference)]
        if against is not None:
            classes = [*self.find_two(classes[0], against)]
        seed = self.seed(inside, *classes)
        names = " rather than ".join(self.name(c) for c in classes)
        if isinstance(region, Point):
            kind, text = "pixel", f"why {names} at {region.text}?"
            box = mask_region(self.frame, inside).bounds  # a point has no extent
        else:
            kind, text = "region", f"what supports {names} in {region.text}?"
            box = region.bounds
        signs = [1.0, -1.0][: len(classes)]
        return seed, self.record(kind, text, seed, inside, classes, signs, box=box)

    def resolve_distribution(self, label: Any) -> Resolved:
        """Return the softmax of all pixels, as a constant."""
        everywhere = np.ones(self.shape, dtype=bool)
        seed = self.probabilities.reshape(-1)
        text = "what supports the prediction as a whole?"
        return seed, self.record("distribution", text, seed, everywhere)

    def resolve_error(self, label: Any) -> Resolved:
        """Return p - 1_y at every pixel whose class is known."""
        return self._against("error", label)

    def resolve_margin(self, label: Any) -> Resolved:
        """Return the predicted less the true class at every wrong pixel."""
        return self._against("margin", label)

    def _foremost(self) -> int:
        counts = np.bincount(self.predicted.reshape(-1), minlength=self.count)
        nothing = background(self.classes)
        things = counts.copy()
        if nothing is not None:
            things[nothing] = 0
        return int((things if things.any() else counts).argmax())

    def _about(self, kind: str, text: str, region: Mask, c: int, *minus: int) -> Resolved:
        seed = self.seed(region, c, *minus)
        signs = [1.0, *[-1.0] * len(minus)]
        return seed, self.record(kind, text, seed, region, [c, *minus], signs)

    def truth(self, label: Any) -> npt.NDArray[np.int64]:
        """Return the true class of each pixel (h, w), -1 where it is unknown.

        Raises
        ------
        TargetError
            If the label is no `GroundTruthMask`, or names a class that the model hasn't.
        """
        if label is None or not isinstance(label, GroundTruthMask):
            raise TargetError(
                "The target needs the ground truth, which for a segmenter is a class for each pixel"
                + ("." if label is None else f", got {label!r}."),
                "Pass label=GroundTruthMask(array) (on the command line --label FILE.png).",
            )
        return label.on_grid(self.frame, self.shape, self.count)

    def _against(self, kind: str, label: Any) -> Resolved:
        truth = self.truth(label)
        known = truth >= 0
        wrong = known & (truth != self.predicted)
        seed = np.zeros_like(self.logits)
        rows, columns = np.nonzero(known if kind == "error" else wrong)
        if kind == "error":
            seed[:, rows, columns] = self.probabilities[:, rows, columns]
            text = "what causes the error?"
        else:
            seed[self.predicted[rows, columns], rows, columns] = 1.0
            text = "why the wrong classes and not the true ones?"
        seed[truth[rows, columns], rows, columns] -= 1.0
        share = f"{int(wrong.sum())} of {int(known.sum())} known pixels are wrong."
        if not wrong.any() and kind == "margin":
            text = "every known pixel is correct: there is no error"
        region = wrong if wrong.any() else known
        if not region.any():
            raise TargetError(
                "The ground truth is unknown at every pixel.", "Give a mask with classes."
            )
        flat = seed.reshape(-1)
        return flat, self.record(kind, text, flat, region, note=share)
