"""A detector's errors over many images: how many of each type, and what each type costs.

D. Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
arXiv:2008.08115.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
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
"""Most boxes of an image that count, as in COCO."""


@dataclass(frozen=True, eq=False)
class TideReport:
    """What is wrong with a detector's answers over a set of images.

    Attributes
    ----------
    cases
        For each image its errors, the most costly first.
    ap
        Average precision at an IoU of 0.5, mean over the classes, in [0, 100].
    counts
        How many errors there are of each type, in the order of the paper. As in the authors'
        package, boxes that a crowd excuses are counted here, though they are in no case.
    gains
        For each type, by how many points AP would rise if these errors alone were mended.
    false_positives, false_negatives
        By how many points AP would rise without any wrong box, and with no object missed.
    """

    cases: tuple[tuple[Mistake, ...], ...]
    ap: float
    counts: Mapping[str, int]
    gains: Mapping[str, float]
    false_positives: float
    false_negatives: float

    @property
    def table(self) -> str:
        """The numbers as text, one type a line."""
        lines = [f"AP at IoU 0.5 {self.ap:6.1f}", f"{'error':<14} {'count':>6} {'dAP':>6}"]
        lines += [f"{t:<14} {self.counts[t]:6d} {self.gains[t]:6.1f}" for t in TYPES]
        lines += [f"{'all wrong boxes':<21} {self.false_positives:6.1f}"]
        lines += [f"{'all not found':<21} {self.false_negatives:6.1f}"]
        return "\n".join(lines)


def tide(
    answers: Iterable[DetectionPrediction],
    truths: Iterable[GroundTruthBoxes],
    *,
    threshold: float | None = None,
    most: int = MOST,
) -> TideReport:
    """Return a detector's errors over images, by type, with what each type costs.

    Parameters
    ----------
    answers, truths
        Of each image, in one order; generators are read one image at a time.
    threshold
        Score above which a candidate is reported; None for each answer's own. AP is usually
        measured far below what is shown to people, at 0.05 or less.
    most
        Most boxes of an image that count.

    Raises
    ------
    InputError
        If there are not as many answers as truths.
    TargetError
        If an object's class is unknown.
    """
    cases, tally = [], _Tally()
    for answer, truth in zip_longest(answers, truths):
        if answer is None or truth is None:
            raise InputError(
                "There are not as many answers as truths.",
                "Give one TrueBoxes for each image; one without objects is TrueBoxes(()).",
            )
        if threshold is not None:
            answer = replace(answer, settings=replace(answer.settings, threshold=threshold))
        given = assign(answer, truth, most=most)
        cases.append(tuple(cases_of(answer, truth, given)))
        tally.add(given)
    ap = mean_ap(tally.points, tally.positives)
    now = tally.with_mended("")
    perfect = [_Point(one.of, float(one.right), one.right) for one in now]
    return TideReport(
        tuple(cases),
        ap,
        {kind: sum(one.kind == kind for one in tally.errors) for kind in TYPES},
        {kind: max(tally.ap_without(kind) - ap, 0.0) for kind in TYPES},
        mean_ap(perfect, tally.positives) - ap,
        mean_ap(now, tally.positives - tally.unfound) - ap,
    )


class _Point(NamedTuple):
    """A box as average precision counts it: of which class, its score, and whether it is right."""

    of: int
    score: float
    right: bool


class _Error(NamedTuple):
    """An error: its box as it counts now and as it would if mended; or the class of what is missed.

    A box is None where it does not count.
    """

    kind: str
    now: _Point | None
    mended: _Point | None
    missed: int | None


@dataclass
class _Tally:
    """What is counted, over the images so far."""

    points: list[_Point] = field(default_factory=list)
    errors: list[_Error] = field(default_factory=list)
    positives: Counter[int] = field(default_factory=Counter)
    unfound: Counter[int] = field(default_factory=Counter)

    def add(self, given: Assignment) -> None:
        """Count an image."""
        self.positives.update(given.classes[~given.crowd].tolist())
        self.unfound.update(given.classes[~given.crowd & (given.found < 0)].tolist())
        right = set(given.found.tolist())
        boxes = [
            _Point(one.entry.index, one.entry.probability, k in right)
            for k, one in enumerate(given.detections)
        ]
        self.points += [box for k, box in enumerate(boxes) if not given.ignored[k]]
        # One object mends one box: the best of those that would be right but for their class or
        # place, if none counts for it.
        mended = set(np.flatnonzero(given.found >= 0).tolist())
        for one in given.findings:
            if one.box is None:
                assert one.truth is not None
                missed = int(given.classes[one.truth])
                self.errors.append(_Error(one.type, None, None, missed))
                continue
            box, better = boxes[one.box], None
            if one.type in ("classification", "localisation") and one.truth not in mended:
                assert one.truth is not None
                mended.add(one.truth)
                better = _Point(int(given.classes[one.truth]), box.score, True)
            self.errors.append(_Error(one.type, None if one.ignored else box, better, None))

    def with_mended(self, kind: str) -> list[_Point]:
        """Return all boxes as they count when the errors of a type are mended."""
        wrong = (one.mended if one.kind == kind else one.now for one in self.errors)
        return [*filter(None, wrong), *(one for one in self.points if one.right)]

    def ap_without(self, kind: str) -> float:
        """Return the mean AP when the errors of a type are mended."""
        gone = Counter(
            one.missed for one in self.errors if one.kind == kind and one.missed is not None
        )
        return mean_ap(self.with_mended(kind), self.positives - gone)


def mean_ap(points: Iterable[_Point], positives: Mapping[int, int]) -> float:
    """Return the mean over the classes of average precision, in [0, 100]; 0 without any class.

    A class of which boxes but no objects are there has 0. Of boxes with one score, those that
    come first count first.
    """
    boxes: dict[int, list[_Point]] = defaultdict(list)
    for one in points:
        boxes[one.of].append(one)
    classes = sorted({*boxes, *(c for c, count in positives.items() if count)})
    found = [average_precision(boxes[c], positives.get(c, 0)) for c in classes]
    return float(np.mean(found)) if found else 0.0


def average_precision(points: Iterable[_Point], positives: int) -> float:
    """Return the mean of the best precision at 101 recalls of 0 to 1, as for COCO, in [0, 100]."""
    right = np.array([one.right for one in sorted(points, key=lambda one: -one.score)], dtype=bool)
    if not positives or not right.size:
        return 0.0
    hits = right.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, right.size + 1))[::-1])[::-1]
    # Recalls as COCO's are, k / 100: hits / positives may equal one to the last bit.
    at = np.searchsorted(hits / positives, np.arange(101) / 100, side="left")
    return float(100.0 * np.append(precision, 0.0)[at].mean())
