"""Errors of a detector, of the six types of TIDE (Bolya et al., ECCV 2020, arXiv:2008.08115)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cvx_core.errors import TargetError
from cvx_core.images.regions import Box
from cvx_core.tasks.base import Judgement, Mistake
from cvx_core.tasks.classes import ClassEntry, Detection
from cvx_core.tasks.detection.assignment import Assignment, Finding, assign
from cvx_core.tasks.detection.missed_objects import FOUND_FROM, Lost, lost_object, rival
from cvx_core.tasks.detection.mistake_targets import (
    ABSENT,
    ENOUGH,
    BoxMiss,
    CandidateRef,
    CandidateScore,
    ErrorTarget,
    log_odds,
    log_odds_of,
    proper,
)
from cvx_core.tasks.detection.prediction import DetectionPrediction, overlaps
from cvx_core.tasks.ground_truth import GroundTruth, GroundTruthBoxes
from cvx_core.tasks.prediction import Prediction


@dataclass(frozen=True, eq=False)
class BoxMistake(Mistake):
    """One wrong box of a detector, or one object that it missed.

    The loss is what the scores that the margin compares cost: -log(1 - s) of what was said, and
    -log(s) of what should have been; where the box is misplaced, 1 - IoU.

    Attributes
    ----------
    detection
        The wrong box; None where an object was missed.
    truth
        Index of the object that it is about, in `truths`; None for background.
    truths
        All objects of the image.
    lost
        At which stage a missed object was lost; None of wrong boxes.
    """

    detection: Detection | None
    truth: int | None
    truths: GroundTruthBoxes
    lost: Lost | None = None

    def judge(self, prediction: Prediction) -> Judgement:
        """Return the margin; correct is a prediction without this mistake that finds its object.

        Boxes and objects are assigned anew. A wrong box is still there if one of the same class
        overlaps it by half and is wrong. The margin is that of the same candidate of a dense
        detector, else of the one that overlaps its box most.
        """
        assert isinstance(self.target, ErrorTarget)
        now = DetectionPrediction.require(prediction, self.target)
        given = assign(now, self.truths)
        margin = self.target.margin(now)
        found = self.truth is None or bool(given.found[self.truth] >= 0)
        if self.detection is None:
            note = "The object is found." if found else "The object is still missed."
            return Judgement(margin, found, note)
        left = [
            given.detections[one.box].text
            for one in given.findings
            if one.box is not None
            and not one.ignored
            and given.detections[one.box].entry.index == self.detection.entry.index
            and _overlap(given.detections[one.box].box, self.detection.box) >= FOUND_FROM
        ]
        needed = found or self.type not in ("classification", "localisation")
        if left:
            note = f"Still there: {left[0]}."
        else:
            note = "The box is gone or right." if needed else "The box is gone, its object missed."
        return Judgement(margin, needed and not left, note)


def detection_mistakes(prediction: DetectionPrediction, ground_truth: GroundTruth) -> list[Mistake]:
    """Return the mistakes of a detector, the most costly first.

    Types and their order of precedence are TIDE's. Boxes that a crowd excuses are left out.
    Their targets and margins:

    - ``classification``: z_q - z_y at the box, q said and y true; where y wins there already and
      q is said too, as ``background``;
    - ``localisation``: 1 - IoU by the sides of the box, less the half that is allowed;
    - ``both``, ``background``: the log-odds of the score, above those of the threshold;
    - ``duplicate``: the log-odds of its score less those of the box that counts, above what they
      would be at the threshold;
    - ``missed``: what lost the object at its `Lost.stage`: 1 - IoU of the nearest candidate, the
      class that beats its own, the threshold above its score, or the box that was better.

    Raises
    ------
    TargetError
        If the ground truth is not boxes, or one has an unknown class.
    """
    if not isinstance(ground_truth, GroundTruthBoxes):
        raise TargetError(
            f"The ground truth for a detector must be GroundTruthBoxes, got {ground_truth!r}.",
            "Pass GroundTruthBoxes.of(boxes, classes), or read a file with read_ground_truth.",
        )
    return cases_of(prediction, ground_truth, assign(prediction, ground_truth))


def cases_of(
    prediction: DetectionPrediction, ground_truth: GroundTruthBoxes, given: Assignment
) -> list[Mistake]:
    """Return the errors of an assignment, the most costly first; see `detection_mistakes`."""
    cases = [
        _missed(prediction, ground_truth, given, one)
        if one.box is None
        else _wrong(prediction, ground_truth, given, one)
        for one in given.findings
        if not one.ignored
    ]
    return sorted(cases, key=lambda case: -case.loss)


def _wrong(
    prediction: DetectionPrediction, ground_truth: GroundTruthBoxes, given: Assignment, one: Finding
) -> BoxMistake:
    assert one.box is not None
    box = given.detections[one.box]
    m, q = box.candidate, box.entry.index
    here = CandidateRef(m, q, box.box)
    y = None if one.truth is None else int(given.classes[one.truth])
    where = f"box {box.index}"
    limit = log_odds_of(prediction.settings.threshold)
    target: ErrorTarget
    if (
        one.type == "classification"
        and y is not None
        and prediction.logits[m, q] > prediction.logits[m, y]
    ):
        text = f"why {prediction.name(q)} and not {prediction.name(y)} at {where}?"
        target = CandidateScore(one.type, text, 0.0, here, CandidateRef.of(prediction, m, y))
    elif one.type == "localisation":
        assert one.truth is not None
        text = f"what keeps {where} from the {prediction.name(q)}?"
        target = BoxMiss(one.type, text, ENOUGH, here, _sides(given, one.truth))
    elif one.type == "duplicate":
        assert one.by is not None
        first = given.detections[one.by]
        text = f"why {prediction.name(q)} at {where} as well as at box {one.by}?"
        zero = limit - log_odds(prediction, first.candidate, q)
        target = CandidateScore(
            one.type, text, zero, here, CandidateRef(first.candidate, q, first.box)
        )
    else:
        text = f"why {prediction.name(q)} at {where}, where no {prediction.name(q)} is?"
        target = CandidateScore(one.type, text, limit, here, None)
    return BoxMistake(
        one.type,
        target,
        proper(box.box),
        box.entry,
        None if y is None else prediction.entry(m, y),
        _loss(prediction, target),
        target.margin(prediction),
        box,
        one.truth,
        ground_truth,
    )


def _missed(
    prediction: DetectionPrediction, ground_truth: GroundTruthBoxes, given: Assignment, one: Finding
) -> BoxMistake:
    assert one.truth is not None
    y, sides = int(given.classes[one.truth]), _sides(given, one.truth)
    taken = {given.detections[k].candidate for k in given.found.tolist() if k >= 0}
    lost = lost_object(prediction, Box(*sides), y, taken)
    here, true = CandidateRef(-1, y, sides), ClassEntry(y, prediction.name(y), ABSENT, 0.0)
    if lost.candidate >= 0:
        here, true = (
            CandidateRef.of(prediction, lost.candidate, y),
            prediction.entry(lost.candidate, y),
        )
    text = f"what holds against the missed {prediction.name(y)} at {Box(*sides).text}?"
    facts: dict[str, Any] = {"note": lost.text}
    said = None
    target: ErrorTarget
    if lost.stage == "candidate":
        target = BoxMiss(one.type, text, ENOUGH, here, sides, **facts)
    elif lost.stage == "threshold":
        zero = -log_odds_of(prediction.settings.threshold)
        target = CandidateScore(one.type, text, zero, None, here, **facts)
    else:
        m, c = rival(prediction, lost, y)
        said = prediction.entry(m, c) if lost.stage == "class" else None
        target = CandidateScore(
            one.type, text, 0.0, CandidateRef.of(prediction, m, c), here, **facts
        )
    return BoxMistake(
        one.type,
        target,
        Box(*sides),
        said,
        true,
        _loss(prediction, target),
        target.margin(prediction),
        None,
        one.truth,
        ground_truth,
        lost,
    )


def _loss(prediction: DetectionPrediction, target: ErrorTarget) -> float:
    if isinstance(target, BoxMiss):
        return target.value(prediction)
    assert isinstance(target, CandidateScore)
    wrong, right = target.plus, target.minus
    # A box that is better than the object's, or counts for it, is not itself wrong.
    if wrong and right and wrong.candidate != right.candidate:
        wrong, right = (wrong, None) if target.kind == "duplicate" else (None, right)
    said, wanted = (
        0.0
        if p is None
        else float(np.logaddexp(0.0, sign * log_odds(prediction, p.candidate, p.index)))
        for p, sign in ((wrong, 1.0), (right, -1.0))
    )
    return said + wanted


def _sides(given: Assignment, truth: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = map(float, given.boxes[truth])
    return left, top, right, bottom


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return float(overlaps(np.array([a]), np.array([b]))[0, 0])
