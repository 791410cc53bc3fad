"""Errors of a detector over many images by type, with the average precision that each costs.

D. Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
arXiv:2008.08115.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from cvx_core import InputError
from cvx_core.tasks import (
    TYPES,
    Assignment,
    DetectionPrediction,
    GroundTruthBoxes,
    Mistake,
    assign,
    cases_of,
)

MOST = 100
"""Maximum number of boxes of an image that count, as in COCO."""


@dataclass(frozen=True, eq=False)
class TideReport:
    """Errors of a detector over a set of images.

    Attributes
    ----------
    mistakes
        For each image its mistakes, the most costly first.
    ap
        Average precision at an IoU of 0.5, mean over the classes that occur in the ground truth,
        in [0, 100], as in pycocotools; None without any object.
    counts
        Number of errors of each type, in the order of the paper. As in the authors' package, boxes
        ignored because of a crowd are counted here, though they are in no mistake.
    gains
        For each type, the increase of AP if these errors alone were corrected; 0 without any
        object, as the next two.
    false_positives, false_negatives
        The increase of AP without any wrong box, and without any missed object.
    """

    mistakes: tuple[tuple[Mistake, ...], ...]
    ap: float | None
    counts: Mapping[str, int]
    gains: Mapping[str, float]
    false_positives: float
    false_negatives: float

    @property
    def table(self) -> str:
        """The numbers as text, one type a line."""
        ap = "-" if self.ap is None else f"{self.ap:.1f}"
        lines = [f"AP at IoU 0.5 {ap:>6}", f"{'error':<14} {'count':>6} {'dAP':>6}"]
        lines += [f"{t:<14} {self.counts[t]:6d} {self.gains[t]:6.1f}" for t in TYPES]
        lines += [f"{'all wrong boxes':<21} {self.false_positives:6.1f}"]
        lines += [f"{'all missed objects':<21} {self.false_negatives:6.1f}"]
        return "\n".join(lines)


def tide(
    predictions: Iterable[DetectionPrediction],
    ground_truths: Iterable[GroundTruthBoxes],
    *,
    threshold: float | None = None,
    most: int = MOST,
) -> TideReport:
    """Return a detector's errors over images by type, with the average precision that each costs.

    Parameters
    ----------
    predictions, ground_truths
        Of each image, in the same order; generators are read one image at a time.
    threshold
        Score above which a candidate is reported; None for each prediction's own. AP is usually
        measured far below what is shown to people, at 0.05 or less.
    most
        Maximum number of boxes of an image that count.

    Raises
    ------
    InputError
        If the numbers of predictions and ground truths differ.
    TargetError
        If an object's class is unknown.
    """
    mistakes, tally = [], _Tally()
    for prediction, ground_truth in zip_longest(predictions, ground_truths):
        if prediction is None or ground_truth is None:
            raise InputError(
                "The numbers of predictions and ground truths differ.",
                "Give one GroundTruthBoxes for each image; without objects GroundTruthBoxes(()).",
            )
        if threshold is not None:
            prediction = replace(
                prediction, settings=replace(prediction.settings, threshold=threshold)
            )
        given = assign(prediction, ground_truth, most=most)
        mistakes.append(tuple(cases_of(prediction, ground_truth, given)))
        tally.add(given)
    now = tally.with_corrected("")
    classes = tally.known
    known = mean_ap(tally.points, tally.positives, classes)

    def gain(points: Iterable[_Point], positives: Mapping[int, int]) -> float:
        return (mean_ap(points, positives, classes) or 0.0) - (known or 0.0)

    perfect = [_Point(one.of, float(one.correct), one.correct) for one in now]
    return TideReport(
        tuple(mistakes),
        known,
        {kind: sum(one.kind == kind for one in tally.errors) for kind in TYPES},
        {kind: max(gain(*tally.without(kind)), 0.0) for kind in TYPES},
        gain(perfect, tally.positives),
        gain(now, tally.positives - tally.unfound),
    )


class _Point(NamedTuple):
    """A box as average precision counts it: its class, its score, and whether it is correct."""

    of: int
    score: float
    correct: bool


class _Error(NamedTuple):
    """An error: its box as it counts now and if corrected, or the class of a missed object.

    A box is None where it does not count.
    """

    kind: str
    now: _Point | None
    corrected: _Point | None
    missed: int | None


@dataclass
class _Tally:
    """Counts over the images so far."""

    points: list[_Point] = field(default_factory=list)
    errors: list[_Error] = field(default_factory=list)
    positives: Counter[int] = field(default_factory=Counter)
    unfound: Counter[int] = field(default_factory=Counter)

    def add(self, given: Assignment) -> None:
        """Count an image."""
        self.positives.update(given.classes[~given.crowd].tolist())
        self.unfound.update(given.classes[~given.crowd & (given.found < 0)].tolist())
        correct = set(given.found.tolist())
        boxes = [
            _Point(one.entry.index, one.entry.probability or 0.0, k in correct)
            for k, one in enumerate(given.detections)
        ]
        self.points += [box for k, box in enumerate(boxes) if not given.ignored[k]]
        # One object corrects one box: the best of those that are wrong only in their class or
        # location, if no correct box finds the object.
        corrected = set(np.flatnonzero(given.found >= 0).tolist())
        for one in given.findings:
            if one.box is None:
                assert one.truth is not None
                missed = int(given.classes[one.truth])
                self.errors.append(_Error(one.type, None, None, missed))
                continue
            box, better = boxes[one.box], None
            if one.type in TYPES[:2] and one.truth not in corrected:
                assert one.truth is not None
                corrected.add(one.truth)
                better = _Point(int(given.classes[one.truth]), box.score, True)
            self.errors.append(_Error(one.type, None if one.ignored else box, better, None))

    @property
    def known(self) -> set[int]:
        """The classes that occur in the ground truth."""
        return {c for c, count in self.positives.items() if count}

    def with_corrected(self, kind: str) -> list[_Point]:
        """Return all boxes as they count when the errors of a type are corrected."""
        wrong = (one.corrected if one.kind == kind else one.now for one in self.errors)
        return [*filter(None, wrong), *(one for one in self.points if one.correct)]

    def without(self, kind: str) -> tuple[list[_Point], Counter[int]]:
        """Return boxes, and objects of each class, when the errors of a type are corrected."""
        gone = Counter(
            one.missed for one in self.errors if one.kind == kind and one.missed is not None
        )
        return self.with_corrected(kind), self.positives - gone


def average_precision_of(
    predictions: Iterable[DetectionPrediction],
    ground_truths: Iterable[GroundTruthBoxes],
    *,
    most: int = MOST,
) -> float | None:
    """Return the ``ap`` of `tide`, without the types of errors."""
    tally = _Tally()
    for prediction, ground_truth in zip(predictions, ground_truths, strict=True):
        tally.add(assign(prediction, ground_truth, most=most))
    return mean_ap(tally.points, tally.positives, tally.known)


def mean_ap(
    points: Iterable[_Point], positives: Mapping[int, int], classes: Collection[int]
) -> float | None:
    """Return the mean over some classes of average precision, in [0, 100]; None without any.

    A class whose missed objects were all taken away counts while it has boxes, as 0. Of boxes
    with equal scores, those that come first count first.
    """
    boxes: dict[int, list[_Point]] = defaultdict(list)
    for one in points:
        boxes[one.of].append(one)
    left = [c for c in sorted(classes) if c in boxes or positives.get(c, 0)]
    found = [average_precision(boxes[c], positives.get(c, 0)) for c in left]
    return float(np.mean(found)) if found else None


def average_precision(points: Iterable[_Point], positives: int) -> float:
    """Return the mean of the best precision at 101 recalls of 0 to 1, as for COCO, in [0, 100]."""
    correct = np.array(
        [one.correct for one in sorted(points, key=lambda one: -one.score)], dtype=bool
    )
    if not positives or not correct.size:
        return 0.0
    hits = correct.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, correct.size + 1))[::-1])[::-1]
    # Recalls as in COCO, k / 100: hits / positives may equal one to the last bit.
    at = np.searchsorted(hits / positives, np.arange(101) / 100, side="left")
    return float(100.0 * np.append(precision, 0.0)[at].mean())
