"""Targets about a reported box, a box side or a missed object of a detector."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cvx_core.errors import TargetError
from cvx_core.images.regions import Box
from cvx_core.tasks.classes import ClassRef
from cvx_core.tasks.detection.missed_objects import lost_stage, nearest
from cvx_core.tasks.detection.prediction import DetectionPrediction
from cvx_core.tasks.prediction import Prediction, Resolved
from cvx_core.tasks.targets import FOUR, Target, split_classes, target_text

SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class BoxScore(Target):
    """A class's logit at one of a detector's boxes.

    Parameters
    ----------
    which
        Rank of a reported box, best first from 0; or a `Box` of the image, for the
        candidate that overlaps it most (with the class's best score among those within 0.05 of
        the best overlap).
    reference
        The class; None takes the box's own.
    against
        Another class whose logit at the same candidate is taken away.
    side
        A side of the box instead of a class: ``left``, ``top``, ``right`` or
        ``bottom``, in pixels of the image.
    """

    which: int | Box
    reference: ClassRef | None = None
    against: ClassRef | None = None
    side: str = ""
    class_fields = ("reference", "against")

    @property
    def asked(self) -> str:
        """As in ``box 2 dog``."""
        which = self.which.text if isinstance(self.which, Box) else f"box {self.which}"
        return target_text(which, self.side, self.reference, self.against)

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the seed at the box's candidate.

        Raises
        ------
        TargetError
            If the model is no detector, or there is no such box, class or side.
        """
        prediction = DetectionPrediction.require(prediction, self)
        candidate, c, where = self._found(prediction)
        if self.side:
            return self._side(prediction, candidate, c, where)
        classes = [c]
        if self.against is not None:
            classes = [*prediction.find_two(c, self.against)]
        seed = prediction.seed(candidate, *classes)
        names = " rather than ".join(prediction.name(index) for index in classes)
        signs = [1.0, -1.0][: len(classes)]
        return seed, prediction.record(
            "box", f"why {names} at {where}?", seed, candidate, classes, signs
        )

    def _found(self, prediction: DetectionPrediction) -> tuple[int, int, str]:
        given = None if self.reference is None else prediction.find(self.reference)
        if isinstance(self.which, Box):
            candidate = nearest(prediction, self.which, given)
            c = int(prediction.scores[candidate].argmax()) if given is None else given
            return candidate, c, self.which.text
        kept = prediction.kept
        if not 0 <= self.which < len(kept):
            raise TargetError(
                f"There is no box {self.which}: the detector reports {len(kept)}.",
                "Reported, best first: " + "; ".join(one.text for one in kept[:8]) + "."
                if kept
                else "Use one that should be there: missed LEFT,TOP,RIGHT,BOTTOM CLASS.",
            )
        one = kept[self.which]
        return one.candidate, one.entry.index if given is None else given, f"box {self.which}"

    def _side(
        self, prediction: DetectionPrediction, candidate: int, c: int, where: str
    ) -> Resolved:
        sides = SIDES
        if self.side not in sides:
            raise TargetError(f"A box has no side {self.side!r}.", f"Sides: {', '.join(sides)}.")
        weights = np.eye(4)[sides.index(self.side)]
        seed = prediction.box_seed(candidate, c, weights)
        text = f"what sets the {self.side} side of {where}?"
        record = prediction.record("side", text, seed, candidate, [c], [1.0])
        return seed, replace(record, unit="pixels")


@dataclass(frozen=True)
class Missed(Target):
    """An object that the detector should have found: its class's logit at the best candidate.

    Parameters
    ----------
    box
        Where the object is, in pixels of the image.
    reference
        Its class.
    """

    box: Box
    reference: ClassRef
    class_fields = ("reference",)

    @property
    def asked(self) -> str:
        """As in ``missed 120,40,260,300 dog``."""
        return target_text("missed", self.box.text.removeprefix("box "), self.reference)

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the one-hot seed of the class at the candidate that comes nearest; its stage.

        Raises
        ------
        TargetError
            If the model is no detector or the class is unknown.
        """
        prediction = DetectionPrediction.require(prediction, self)
        c = prediction.find(self.reference)
        lost = lost_stage(prediction, self.box, c)
        seed = prediction.seed(lost.candidate, c)
        text = f"what supports the missed {prediction.name(c)} at {self.box.text}?"
        record = prediction.record("missed", text, seed, lost.candidate, [c], [1.0], c, lost.text)
        return seed, replace(record, box=self.box.bounds)


FORMS = {
    "box": "LEFT,TOP,RIGHT,BOTTOM, or box NUMBER",
    "missed": "LEFT,TOP,RIGHT,BOTTOM CLASS",
}


def parse_box_target(word: str, rest: str) -> Target | None:
    """Read a target about a box as written on the command line; None if it is none.

    Raises
    ------
    TargetError
        If a missed object has no class.
    """
    numbers = re.match(rf"({FOUR})\s*(.*)$", rest)
    box = Box(*map(float, numbers[1].split(","))) if numbers else None
    name = numbers[2].strip() if numbers else ""
    if word == "box" and box is not None:
        return BoxScore(box, *split_classes(name))
    if word == "box" and re.match(r"\d{1,9}(?:\s|$)", rest):
        rank, _, name = rest.partition(" ")
        if name.strip() in SIDES:
            return BoxScore(int(rank), side=name.strip())
        return BoxScore(int(rank), *split_classes(name))
    if word == "missed" and box is not None:
        if not name:
            raise TargetError(
                f"'missed {rest}' names no class.", "Write: missed LEFT,TOP,RIGHT,BOTTOM CLASS."
            )
        return Missed(box, name)
    return None
