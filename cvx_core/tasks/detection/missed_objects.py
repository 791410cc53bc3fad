"""Missed objects: the stage that lost one, its rival, and the prediction without that stage."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cvx_core.errors import TargetError
from cvx_core.images.regions import Box
from cvx_core.tasks.detection.prediction import DetectionPrediction, overlaps

FOUND_FROM = 0.5
"""Overlap with the object from which a candidate counts as its own, as in COCO's AP50 and TIDE."""


NEAR = 0.05


@dataclass(frozen=True)
class Lost:
    """Stage at which a detector lost an object.

    Attributes
    ----------
    stage
        ``candidate`` (no candidate overlaps it enough), ``class`` (the best one has a higher
        score for another class), ``threshold`` (its score is too low), ``topk`` (too many are
        better for it to be compared), ``suppression`` (a better box suppressed it), ``limit``
        (more boxes are better than an image may have), or an empty string: it is found. They
        come in this order; what is overridden may uncover a later one.
    candidate
        The candidate that comes nearest.
    overlap
        Of that candidate's box with the object, in [0, 1].
    score
        Of the class at that candidate, in [0, 1].
    text
        For people.
    by
        The candidate that suppressed it, or None.
    """

    stage: str
    candidate: int
    overlap: float
    score: float
    text: str
    by: int | None = None


def lost_stage(prediction: DetectionPrediction, box: Box, index: int) -> Lost:
    """Return at which stage a detector lost an object of a class.

    The candidate is the one with the best score for the class among those that overlap the object
    enough; without any, the one with the largest overlap.
    """
    overlap = overlaps(np.array([box.bounds]), prediction.boxes_of(index))[0]
    overlap = np.where(prediction.present(index), overlap, 0.0)
    enough = np.flatnonzero(overlap >= FOUND_FROM)
    score = prediction.scores[:, index]
    if not enough.size:
        m = int(overlap.argmax())
        text = f"No candidate overlaps it by {FOUND_FROM:g}; the nearest does by {overlap[m]:.2f}."
        return Lost("candidate", m, float(overlap[m]), float(score[m]), text)
    m = int(enough[score[enough].argmax()])
    facts = (m, float(overlap[m]), float(score[m]))
    threshold = prediction.settings.threshold
    if any(one.entry.index == index and one.candidate in set(enough) for one in prediction.kept):
        return Lost("", *facts, "It is found.")
    other = int(prediction.scores[m].argmax())
    if score[m] <= threshold or (prediction.settings.single and other != index):
        if other != index and prediction.scores[m, other] > threshold:
            text = (
                f"The candidate there says {prediction.entry(m, other).text}; "
                f"{prediction.entry(m, index).text}."
            )
            return Lost("class", *facts, text)
        text = f"Its score {score[m]:.2f} is not above the threshold {threshold:g}."
        return Lost("threshold", *facts, text)
    by = {k: better for k, c, better in prediction.suppression(threshold) if c == index}
    if m not in by:
        text = (
            f"{prediction.settings.topk} of its {prediction.settings.topk_in} have a better score."
        )
        return Lost("topk", *facts, text)
    if by.get(m) is not None:
        text = (
            f"It was suppressed by candidate {by[m]} ({score[by[m]]:.2f}), whose box overlaps its "
            f"by more than {prediction.settings.overlap:g}."
        )
        return Lost("suppression", *facts, text, by[m])
    return Lost("limit", *facts, f"{prediction.settings.most} boxes have a better score.")


def nearest(prediction: DetectionPrediction, box: Box, index: int | None) -> int:
    """Return the candidate that overlaps a box most; near ties go to the better score."""
    overlap = overlaps(np.array([box.bounds]), prediction.boxes_of(index))[0]
    overlap = np.where(prediction.present(index), overlap, 0.0)
    if not overlap.any():
        raise TargetError(
            f"No candidate overlaps {box.text}.",
            "A box is left,top,right,bottom in pixels of the image.",
        )
    score = prediction.scores.max(1) if index is None else prediction.scores[:, index]
    close = np.flatnonzero(overlap >= overlap.max() - NEAR)
    return int(close[score[close].argmax()])


def lost_object(
    prediction: DetectionPrediction, box: Box, index: int, taken: Collection[int] = ()
) -> Lost:
    """Return the stage at which an object was lost, where some boxes count for other objects.

    Parameters
    ----------
    prediction
        The detector's.
    box, index
        The object and its class.
    taken
        Candidates whose boxes count for other objects.

    Returns
    -------
    Lost
        As of `lost_stage`. If all that is found there counts for others, that of the best of the
        other candidates. `Lost.candidate` is -1 if there is no candidate at all.
    """
    rest = np.setdiff1d(np.arange(len(prediction.logits)), list(taken))
    if not rest.size:
        return Lost("candidate", -1, 0.0, 0.0, "There is no candidate for it at all.")
    first = lost_stage(prediction, box, index)
    if first.stage or not taken:
        return first
    score = prediction.scores[:, index]
    overlap = overlaps(np.array([box.bounds]), prediction.boxes_of(index))[0]
    overlap = np.where(prediction.present(index), overlap, 0.0)
    free = rest[overlap[rest] >= FOUND_FROM]
    if not free.size:
        m = int(rest[overlap[rest].argmax()])
        text = "The box there counts for another object, and no other candidate overlaps it enough."
        return Lost("candidate", m, float(overlap[m]), float(score[m]), text)
    m = int(free[score[free].argmax()])
    facts = (m, float(overlap[m]), float(score[m]))
    other, text = int(prediction.scores[m].argmax()), "The box there counts for another object; "
    threshold = prediction.settings.threshold
    by = {k: better for k, c, better in prediction.suppression(threshold) if c == index}
    if prediction.settings.single and other != index and prediction.scores[m, other] > threshold:
        return Lost("class", *facts, f"{text}the next candidate says {prediction.name(other)}.")
    if score[m] <= threshold:
        return Lost("threshold", *facts, f"{text}the next candidate's score is {score[m]:.2f}.")
    if m not in by:
        return Lost("topk", *facts, f"{text}too many are better than the next candidate.")
    if by[m] is not None:
        text += f"the next candidate was suppressed by candidate {by[m]}."
        return Lost("suppression", *facts, text, by[m])
    return Lost("limit", *facts, f"{text}too many are better than the next candidate's.")


def rival(prediction: DetectionPrediction, lost: Lost, index: int) -> tuple[int, int]:
    """Return the candidate and class that beat a missed object at its stage.

    At ``class`` the best class of its candidate, at ``suppression`` what suppressed it; at
    ``topk`` and ``limit`` the weakest that went on.
    """
    if lost.stage == "class":
        return lost.candidate, int(prediction.scores[lost.candidate].argmax())
    if lost.by is not None:
        return lost.by, index
    if lost.stage == "limit":
        last = prediction.kept[-1]
        return last.candidate, last.entry.index
    compared = prediction.compared(prediction.settings.threshold)
    if prediction.settings.topk_in == "class":
        compared[:, np.arange(prediction.count) != index] = False
    else:
        ends = np.cumsum(prediction.settings.levels or (len(compared),))
        level = np.searchsorted(ends, [*range(len(compared))], side="right")
        compared[level != level[lost.candidate]] = False
    m, c = np.unravel_index(np.where(compared, prediction.scores, np.inf).argmin(), compared.shape)
    return int(m), int(c)


def without_stage(
    prediction: DetectionPrediction, lost: Lost, box: Box, index: int
) -> DetectionPrediction:
    """Return the prediction as if the stage that lost an object had let it pass.

    If the stage is rightly named the object is found in it, or is lost at a later stage. At
    ``candidate`` the box is set upon the object; at ``class`` the two classes' logits are swapped;
    at ``threshold`` the threshold comes down to just below the score; ``topk``, ``suppression``
    and ``limit`` are taken away.

    Raises
    ------
    TargetError
        If nothing was lost.
    """
    settings, m = prediction.settings, lost.candidate
    if lost.stage == "candidate":
        boxes = prediction.boxes.copy()
        inside = np.array(box.bounds) - np.array(prediction.frame.extent[:2] * 2)
        left, top, right, bottom = prediction.frame.extent
        scale = np.array([right - left, bottom - top] * 2)
        size = (1, 1) if settings.relative else prediction.frame.size
        sides = inside / scale * np.array(size * 2)
        boxes[(m,) if boxes.ndim == 2 else (m, index)] = sides
        return replace(prediction, boxes=boxes)
    if lost.stage == "class":
        logits = prediction.logits.copy()
        other = int(prediction.scores[m].argmax())
        logits[m, [index, other]] = logits[m, [other, index]]
        return replace(prediction, logits=logits)
    changes: dict[str, dict[str, Any]] = {
        "threshold": {"threshold": float(np.nextafter(prediction.scores[m, index], 0.0))},
        "topk": {"topk": None},
        "suppression": {"overlap": None},
        "limit": {"most": prediction.scores.size},
    }
    if lost.stage not in changes:
        raise TargetError(
            "The detector reports this object.", "Pass the result of lost_stage for a missed one."
        )
    return replace(prediction, settings=replace(settings, **changes[lost.stage]))
