"""Targets of a detector's mistakes: scores at chosen candidates, and the sides of a box."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core.errors import TargetError
from cvx_core.images.regions import Box
from cvx_core.tasks.detection.missed_objects import FOUND_FROM, nearest
from cvx_core.tasks.detection.prediction import DetectionPrediction, overlaps
from cvx_core.tasks.prediction import Prediction, Resolved, Seed
from cvx_core.tasks.targets import Target

Sides = tuple[float, float, float, float]

ABSENT = -13.8
"""Log-odds of what no candidate says: a score of a millionth."""


@dataclass(frozen=True)
class CandidateRef:
    """A class at a candidate, found again in another prediction for the same image.

    Attributes
    ----------
    candidate, index
        Which candidate (-1: there was none), and which class.
    box
        The candidate's box for the class, in pixels of the image.
    """

    candidate: int
    index: int
    box: Sides

    @classmethod
    def of(cls, prediction: DetectionPrediction, candidate: int, index: int) -> CandidateRef:
        """Return the reference to a class at a candidate."""
        return cls(candidate, index, prediction.box(candidate, index))

    def on(self, prediction: DetectionPrediction) -> int | None:
        """Return the candidate in another prediction; None if none overlaps the box.

        A dense detector's candidate is at the same position for every image. One that proposes its
        candidates anew has the one that overlaps the box most.
        """
        if self.candidate < 0:
            return None
        if self.candidate < len(prediction.logits) and (
            prediction.settings.levels or prediction.box(self.candidate, self.index) == self.box
        ):
            return self.candidate
        try:
            return nearest(prediction, proper(self.box), self.index)
        except TargetError:
            return None


@dataclass(frozen=True)
class ErrorTarget(Target):
    """A target whose seed is the gradient of a mistake's margin.

    Parameters
    ----------
    kind
        The error's type.
    text
        The target in words.
    zero
        What `value` is where the error ends.
    note
        What a reader must know, or an empty string.
    """

    kind: str
    text: str
    zero: float
    note: str = field(default="", kw_only=True)

    @abstractmethod
    def value(self, prediction: DetectionPrediction) -> float:
        """Return what the seed is the gradient of."""

    def margin(self, prediction: DetectionPrediction) -> float:
        """Return by how much the error wins."""
        return self.value(prediction) - self.zero


@dataclass(frozen=True)
class CandidateScore(ErrorTarget):
    """A score at a candidate, less another's: in log-odds, or as logits at one candidate.

    Log-odds, log(s / (1 - s)) of a score s, are the logit itself where classes are independent.
    Where they exclude each other their gradient counts the other classes too, since the logit
    alone has no meaning there.

    Parameters
    ----------
    plus, minus
        What is said, and what should be; None for nothing.
    """

    plus: CandidateRef | None
    minus: CandidateRef | None

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the seed.

        Raises
        ------
        TargetError
            If the model is no detector, or no candidate overlaps the box any more.
        """
        prediction = DetectionPrediction.require(prediction, self)
        places = [(place, sign) for place, sign in self._signed if place is not None]
        at = [_needed(place, prediction) for place, _ in places]
        seed = np.zeros(prediction.logits.size + prediction.boxes.size)
        for (place, sign), m in zip(places, at, strict=True):
            seed += sign * (
                prediction.seed(m, place.index)
                if len(set(at)) < len(at)
                else log_odds_seed(prediction, m, place.index)
            )
        # The record tells the scores of one candidate.
        classes = [place.index for (place, _), m in zip(places, at, strict=True) if m == at[0]]
        signs = [sign for (_, sign), m in zip(places, at, strict=True) if m == at[0]]
        return seed, prediction.record(
            self.kind, self.text, seed, at[0], classes, signs, note=self.note
        )

    def value(self, prediction: DetectionPrediction) -> float:
        """Return the difference; what no candidate says any more has a score of a millionth."""
        places = [(place, sign) for place, sign in self._signed if place is not None]
        at = [place.on(prediction) for place, _ in places]
        plain = len(at) == 2 and at[0] is not None and at[0] == at[1]
        total = 0.0
        for (place, sign), m in zip(places, at, strict=True):
            if m is None:
                total += sign * ABSENT
            elif plain:
                total += sign * float(prediction.logits[m, place.index])
            else:
                total += sign * log_odds(prediction, m, place.index)
        return total

    @property
    def _signed(self) -> tuple[tuple[CandidateRef | None, float], ...]:
        return (self.plus, 1.0), (self.minus, -1.0)


@dataclass(frozen=True)
class BoxMiss(ErrorTarget):
    """How far a candidate's box misses an object: 1 - IoU, by the box's sides.

    Parameters
    ----------
    place
        The candidate and the class.
    wanted
        The object's box, in pixels of the image.
    """

    place: CandidateRef
    wanted: Sides

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the seed: derivatives of 1 - IoU by the sides, per pixel of the image.

        Raises
        ------
        TargetError
            If the model is no detector, or no candidate overlaps the box any more.
        """
        prediction = DetectionPrediction.require(prediction, self)
        m = _needed(self.place, prediction)
        c = self.place.index
        seed = prediction.box_seed(m, c, -iou_gradient(prediction.box(m, c), self.wanted))
        record = prediction.record(self.kind, self.text, seed, m, [c], [1.0], note=self.note)
        return seed, replace(record, unit="1 - IoU")

    def value(self, prediction: DetectionPrediction) -> float:
        """Return 1 - IoU, in [0, 1]."""
        m = self.place.on(prediction)
        if m is None:
            return 1.0
        box = np.array([prediction.box(m, self.place.index)])
        return 1.0 - float(overlaps(box, np.array([self.wanted]))[0, 0])


def log_odds(prediction: DetectionPrediction, candidate: int, index: int) -> float:
    """Return log(s / (1 - s)) of a class's score s at a candidate."""
    logits = prediction.logits[candidate]
    if not prediction.settings.exclusive:
        return float(logits[index])
    others = np.delete(logits, index)
    most = others.max()
    return float(logits[index] - most - np.log(np.exp(others - most).sum()))


def log_odds_seed(prediction: DetectionPrediction, candidate: int, index: int) -> Seed:
    """Return the gradient of `log_odds` by all outputs (N,)."""
    seed = prediction.seed(candidate, index)
    if prediction.settings.exclusive:
        weights = np.exp(prediction.logits[candidate] - prediction.logits[candidate].max())
        weights[index] = 0.0
        start = candidate * prediction.count
        seed[start : start + prediction.count] -= weights / weights.sum()
    return seed


def log_odds_of(score: float) -> float:
    """Return log(s / (1 - s)) of a score in [0, 1], which is kept a millionth from both ends."""
    s = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(s / (1 - s))


def iou_gradient(box: Sides, wanted: Sides) -> npt.NDArray[np.float64]:
    """Return the derivatives (4,) of the IoU of two boxes by the sides of the first.

    Where two sides coincide, the derivative is that towards the outside; all are 0 where the
    boxes don't overlap.
    """
    b, w = np.array(box), np.array(wanted)
    low, high = np.maximum(b[:2], w[:2]), np.minimum(b[2:], w[2:])
    inside = high - low
    if (inside <= 0).any():
        return np.zeros(4)
    own = b[2:] - b[:2]
    shared, area = inside.prod(), own.prod()
    union = area + (w[2:] - w[:2]).prod() - shared
    # Growing a side by one pixel adds the box's other extent to its area, and the overlap's other
    # extent to the overlap if the side lies inside the object's.
    d_area = np.concatenate([-own[::-1], own[::-1]])
    inner = np.concatenate([b[:2] > w[:2], b[2:] < w[2:]])
    d_shared = np.concatenate([-inside[::-1], inside[::-1]]) * inner
    return np.asarray((d_shared * union - shared * (d_area - d_shared)) / union**2)


def proper(box: Sides) -> Box:
    """Return a detector's box as a region; one without an area gets a pixel."""
    left, top, right, bottom = box
    return Box(left, top, max(right, left + 1.0), max(bottom, top + 1.0))


def _needed(place: CandidateRef, prediction: DetectionPrediction) -> int:
    found = place.on(prediction)
    if found is None:
        raise TargetError(
            f"No candidate of this prediction overlaps {proper(place.box).text}.",
            "Use the mistakes of this prediction: find_mistakes(prediction, ground_truth).",
        )
    return found


ENOUGH = 1.0 - FOUND_FROM
"""1 - IoU up to which a box counts as well placed."""
