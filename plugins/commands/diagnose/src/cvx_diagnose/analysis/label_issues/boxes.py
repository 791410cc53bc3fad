"""Label issues of detectors: missing, shifted, superfluous boxes, and boxes of a wrong class."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from cvx_core.tasks import overlaps
from cvx_diagnose.analysis.metrics.box_matching import FOUND, objects_found, share_inside
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import Row

Numbers = npt.NDArray[Any]

MISSING, SHIFTED, WRONG_CLASS, SUPERFLUOUS = "missing", "shifted", "wrong class", "superfluous"

DOUBTED = 0.8
"""Doubt above which a label is missing or shifted."""

_LIKELY = 0.5
"""Doubt above which a label is superfluous."""

_CONFUSED = 0.25
"""Doubt above which a label has a wrong class, as of images."""

_THERE, _NEAR = 0.3, 0.1
"""Intersections over union: of any box that is at an object, and of one that finds no other and may
be about it."""

_FEWEST = 30
"""Boxes of a class below which those of all classes stand for them."""

_RIVAL = 0.5
"""Share of a box's score from which the annotated class is a rival of its class."""

_WHISKER = 2.0
"""Interquartile ranges below the first quartile from which an overlap is unusual."""


@dataclass(eq=False)
class _Image:
    """Boxes of an image: what is predicted, by falling score, and what is annotated.

    Attributes
    ----------
    shared
        (n, m), intersections over union of predictions and objects.
    object_of
        (n,), the object of its class that each prediction finds, or -1.
    """

    row: Row
    classes: Numbers
    scores: Numbers
    boxes: Numbers
    kinds: Numbers
    objects: Numbers
    crowd: Numbers
    shared: Numbers
    object_of: Numbers


def find_box_issues(run: Run) -> list[dict[str, Any]]:
    """Return the label issues of a detector's run, the most doubtful first.

    A confident box without an object means a missing label, if it overlaps an object of its
    class a shifted one, and if it lies on an object of another class, of which there is no
    box, a wrong class. An object at which there is no box at all, however low its score, is
    superfluous. These four are those of Tkachenko et al. (ObjectLab, 2023,
    arXiv:2309.00832). The doubt is estimated from the run by isotonic regression. Of the first two
    it is the share of boxes with such a score that find an object of their class. Of the others it
    is e / (1 - a): a is the share of boxes on objects with such a score that have the object's
    class, or of objects of such a size at which there is a box; and e = 1 - max a is what labels
    alone explain, as confident boxes and large objects are wrong or missed for no other reason.

    Returns
    -------
    list of dict
        ``id``, ``path``, ``kind``, ``box`` in pixels of the image, ``label``, the annotated class
        (None where a label is missing), ``suggested`` (None for a superfluous one), ``doubt``, and
        of a shifted one ``proposed_box``, the predicted one.
        Boxes of one image that are in a crowd are left out.
    """
    images = [
        _image(row)
        for table in run.blocks(["id", "path", "detections", "candidates", "ground_truth"])
        for row in table.to_pylist()
        if row["ground_truth"] is not None
    ]
    if not images:
        return []
    hits = np.concatenate([one.object_of >= 0 for one in images])
    right = _by_class(
        np.concatenate([one.classes for one in images]),
        np.concatenate([one.scores for one in images]),
        hits,
    )
    found = _superfluous(images)
    fences = _fences(images)
    confused = _confusions(images)
    for one in images:
        doubts = right(one.classes, one.scores)
        found += _about_predictions(one, doubts, fences, confused)
    return sorted(found, key=lambda issue: (-issue["doubt"], issue["id"]))


def _image(row: Row) -> _Image:
    several = sorted(row["detections"] or (), key=lambda one: -one["score"])
    boxes = np.array([one["box"] for one in several], dtype=np.float64).reshape(-1, 4)
    classes = np.array([one["class"] for one in several], dtype=np.int64)
    scores = np.array([one["score"] for one in several], dtype=np.float64)
    truth = row["ground_truth"]
    objects = np.array([one["box"] for one in truth], dtype=np.float64).reshape(-1, 4)
    kinds = np.array([one["class"] for one in truth], dtype=np.int64)
    crowd = np.array([one["crowd"] for one in truth], dtype=bool)
    shared = overlaps(boxes, objects)
    object_of = objects_found(classes, kinds, ~crowd, shared)
    return _Image(row, classes, scores, boxes, kinds, objects, crowd, shared, object_of)


def _by_class(classes: Numbers, values: Numbers, hits: Numbers) -> Any:
    """Return the share of hits as a rising function of a value, for each class."""
    common = _Curve(values, hits)
    own = {
        int(c): _Curve(values[classes == c], hits[classes == c])
        for c in np.unique(classes)
        if (classes == c).sum() >= _FEWEST
    }

    def share(of: Numbers, at: Numbers) -> Numbers:
        found = common(at)
        for c in np.unique(of):
            if int(c) in own:
                found[of == c] = own[int(c)](at[of == c])
        return found

    return share


class _Curve:
    """Share of hits as a rising function of a value (isotonic regression)."""

    def __init__(self, values: Numbers, hits: Numbers) -> None:
        self._fitted = None
        if len(values):
            # The upper quarter is one level, so that its end is not a matter of single values.
            high = float(np.quantile(values, 0.75))
            self._fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
                np.minimum(values, high), hits.astype(float)
            )

    def __call__(self, values: Numbers) -> Numbers:
        if self._fitted is None or not len(values):
            return np.zeros(len(values))
        found: Numbers = self._fitted.predict(values)
        return found

    def unexplained(self, values: Numbers) -> Numbers:
        """Return e / (1 - a) of `find_box_issues`, in [0, 1]."""
        if self._fitted is None or not len(values):
            return np.zeros(len(values))
        least = 1 - float(self._fitted.y_thresholds_.max())
        shares: Numbers = least / np.maximum(1 - self(values), 1e-12)
        return np.minimum(shares, 1.0)


def _confusions(images: list[_Image]) -> _Curve:
    """Return the share of boxes on objects that have the object's class, by their score."""
    scores, hits = [], []
    for one in images:
        for k in range(len(one.boxes) if len(one.objects) else 0):
            if one.object_of[k] < 0 and np.where(one.crowd, 0.0, one.shared[k]).max() < FOUND:
                continue
            same = (one.kinds == one.classes[k]) & (one.shared[k] >= FOUND)
            scores.append(float(one.scores[k]))
            hits.append(bool(same.any()))
    return _Curve(np.array(scores), np.array(hits, dtype=bool))


def _fences(images: list[_Image]) -> dict[int, float]:
    """Return for each class the overlap below which that of a box and its object is unusual."""
    several: dict[int, list[float]] = defaultdict(list)
    for one in images:
        for k in np.flatnonzero(one.object_of >= 0):
            value = float(one.shared[k, one.object_of[k]])
            several[int(one.classes[k])].append(value)
            several[-1].append(value)
    fences = {}
    for c, values in several.items():
        if len(values) >= _FEWEST or c == -1:
            low, high = np.quantile(values, [0.25, 0.75])
            fences[c] = float(low - _WHISKER * (high - low))
    return fences


def _about_predictions(
    one: _Image, doubts: Numbers, fences: dict[int, float], confused: _Curve
) -> list[dict[str, Any]]:
    """Return missing and shifted labels, and those of a wrong class, of an image."""
    found = []
    told = set(one.object_of[one.object_of >= 0].tolist())
    for k, doubt in enumerate(doubts.tolist()):
        if doubt <= DOUBTED:
            continue
        c, own = int(one.classes[k]), int(one.object_of[k])
        if own >= 0:
            fence = fences.get(c, fences.get(-1, 0.0))
            if one.shared[k, own] < fence:
                found.append(_shifted(one, own, k, doubt))
            continue
        same = np.where((one.kinds == c) & ~one.crowd, one.shared[k], 0.0)
        other = np.where((one.kinds != c) & ~one.crowd, one.shared[k], 0.0)
        in_crowd = one.crowd & (one.kinds == c)
        if in_crowd.any() and share_inside(one.boxes[k], one.objects[in_crowd]).max() >= FOUND:
            continue
        near = [j for j in np.argsort(-same) if same[j] >= _NEAR]
        if any(j in told for j in near if same[j] >= FOUND):
            continue  # a second box of one object
        if near and near[0] not in told:
            told.add(near[0])
            found.append(_shifted(one, near[0], k, doubt))
        elif len(other) and other.max() >= FOUND:
            j = int(other.argmax())
            if j not in told and not _has_rival(one, k, j):
                likely = float(confused.unexplained(one.scores[k : k + 1])[0])
                if likely > _CONFUSED:
                    told.add(j)
                    kind = int(one.kinds[j])
                    found.append(_issue(one, WRONG_CLASS, one.objects[j], kind, c, likely))
        elif not near:
            found.append(_issue(one, MISSING, one.boxes[k], None, c, doubt))
    return found


def _shifted(one: _Image, j: int, k: int, doubt: float) -> dict[str, Any]:
    c = int(one.classes[k])
    return {
        **_issue(one, SHIFTED, one.objects[j], c, c, doubt),
        "proposed_box": [float(side) for side in one.boxes[k]],
    }


def _has_rival(one: _Image, k: int, j: int) -> bool:
    """Say whether an object's own class scores about as high there as a box of another class."""
    scores = [
        candidate["score"]
        for candidate in (*(one.row["candidates"] or ()), *(one.row["detections"] or ()))
        if candidate["class"] == one.kinds[j]
        and overlaps(np.array([candidate["box"]], dtype=np.float64), one.objects[j][None])[0, 0]
        >= FOUND
    ]
    return bool(max(scores, default=0.0) >= _RIVAL * one.scores[k])


def _superfluous(images: list[_Image]) -> list[dict[str, Any]]:
    """Return objects at which there is no box, of a size at which there usually is one."""
    sizes, seen, where = [], [], []
    for one in images:
        everything = [*(one.row["candidates"] or ()), *(one.row["detections"] or ())]
        boxes = np.array([box["box"] for box in everything], dtype=np.float64).reshape(-1, 4)
        shared = overlaps(one.objects, boxes)
        for j in np.flatnonzero(~one.crowd):
            sides = one.objects[j, 2:] - one.objects[j, :2]
            sizes.append(float(np.sqrt(max(sides.prod(), 0.0))))
            at = bool(len(boxes) and shared[j].max() >= _THERE)
            lost = one.object_of < 0
            seen.append(at or bool(lost.any() and one.shared[lost, j].max() >= _NEAR))
            where.append((one, j))
    doubts = _Curve(np.array(sizes), np.array(seen, dtype=bool)).unexplained(np.array(sizes))
    return [
        _issue(one, SUPERFLUOUS, one.objects[j], int(one.kinds[j]), None, float(doubt))
        for (one, j), there, doubt in zip(where, seen, doubts, strict=True)
        if not there and doubt > _LIKELY
    ]


def _issue(
    one: _Image, kind: str, box: Numbers, label: int | None, suggested: int | None, doubt: float
) -> dict[str, Any]:
    return {
        "id": one.row["id"],
        "path": one.row["path"],
        "kind": kind,
        "box": [float(side) for side in box],
        "label": label,
        "suggested": suggested,
        "doubt": doubt,
    }
