"""Targets that ask about a part of the image: a region, an output pixel, a box, a missed object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cvx_core.connected import border, components
from cvx_core.detections import Detections, need_detections, overlaps
from cvx_core.errors import TargetError
from cvx_core.pixels import need_pixels
from cvx_core.regions import Box, Point, Region, mask_region
from cvx_core.scores import ClassRef
from cvx_core.target import Resolved, Target, find_two


@dataclass(frozen=True)
class RegionScore(Target):
    """A class's logit summed over a region, of a segmenter.

    Parameters
    ----------
    region
        A `Box`, `Polygon` or `MaskRegion` in pixels of the photograph.
    reference
        The class; None takes the one predicted for most of the region.
    against
        Another class whose logits are taken away: why the one rather than the other there.
    """

    region: Region
    reference: ClassRef | None = None
    against: ClassRef | None = None

    @property
    def asked(self) -> str:
        """As in ``region 120,40,260,300 person``."""
        return _asked("region", self.region.text.removeprefix("box "), self.reference, self.against)

    def resolve(self, scores: Any, label: Any = None) -> Resolved:
        """Return the seed that sums the class's logits (less the other's) over the region.

        Raises
        ------
        TargetError
            If the model is no segmenter, a class is unknown, or the network doesn't see the
            region.
        """
        answer = need_pixels(scores, self)
        inside = self.region.on_grid(answer.frame, answer.shape)
        if self.reference is None:
            counts = np.bincount(answer.predicted[inside], minlength=answer.count)
            classes = [int(counts.argmax())]
        else:
            classes = [answer.find(self.reference)]
        if self.against is not None:
            classes = [*find_two(answer, classes[0], self.against)]
        seed = answer.seed(inside, *classes)
        names = " rather than ".join(answer.name(c) for c in classes)
        text = f"what speaks for {names} in {self.region.text}?"
        signs = [1.0, -1.0][: len(classes)]
        return seed, answer.record(
            "region", text, seed, inside, classes, signs, box=self.region.bounds
        )


@dataclass(frozen=True)
class PixelScore(Target):
    """A class's logit at one output pixel, of a segmenter.

    Parameters
    ----------
    x, y
        In pixels of the photograph; the output pixel over that place answers.
    reference
        The class; None takes the one predicted there.
    """

    x: float
    y: float
    reference: ClassRef | None = None

    @property
    def asked(self) -> str:
        """As in ``pixel 120,40 person``."""
        return _asked(Point(self.x, self.y).text, "", self.reference)

    def resolve(self, scores: Any, label: Any = None) -> Resolved:
        """Return the one-hot seed of the class at the pixel; raises as `RegionScore`."""
        answer = need_pixels(scores, self)
        point = Point(self.x, self.y)
        inside = point.on_grid(answer.frame, answer.shape)
        given = self.reference
        c = int(answer.predicted[inside][0]) if given is None else answer.find(given)
        seed = answer.seed(inside, c)
        text = f"why {answer.name(c)} at {point.text}?"
        # A place has no extent; its output pixel has.
        rows, columns = np.nonzero(inside)
        x, y = answer.frame.centres(answer.shape)
        dx = (answer.frame.extent[2] - answer.frame.extent[0]) / answer.shape[1] / 2
        dy = (answer.frame.extent[3] - answer.frame.extent[1]) / answer.shape[0] / 2
        at = float(x[columns[0]]), float(y[rows[0]])
        box = (at[0] - dx, at[1] - dy, at[0] + dx, at[1] + dy)
        return seed, answer.record("pixel", text, seed, inside, [c], [1.0], box=box)


@dataclass(frozen=True)
class ComponentScore(Target):
    """A class's logit summed over a connected part of a segmenter's answer, or over its border.

    Parameters
    ----------
    x, y
        A place in it, in pixels of the photograph. The part is of all output pixels of the class
        predicted there that are connected with it through sides and corners.
    reference
        The class asked about; None takes the part's own.
    against
        Another class whose logits are taken away.
    band
        Width in output pixels: only the part's pixels up to so far from its border; 0 takes all.
    """

    x: float
    y: float
    reference: ClassRef | None = None
    against: ClassRef | None = None
    band: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.band, bool) or not isinstance(self.band, int) or self.band < 0:
            raise TargetError(f"band={self.band!r} is no width.", "Give output pixels, 0 or more.")

    @property
    def asked(self) -> str:
        """As in ``component 120,40`` or ``boundary 120,40 person``."""
        place = Point(self.x, self.y).text.removeprefix("pixel ")
        kind = "boundary" if self.band else "component"
        return _asked(kind, place, self.reference, self.against)

    def resolve(self, scores: Any, label: Any = None) -> Resolved:
        """Return the seed that sums the class's logits over the part; raises as `RegionScore`."""
        answer = need_pixels(scores, self)
        point = Point(self.x, self.y)
        [row], [column] = np.nonzero(point.on_grid(answer.frame, answer.shape))
        parts = components(answer.predicted)
        whole = parts == parts[row, column]
        inside = border(whole, self.band) if self.band else whole
        own = int(answer.predicted[row, column])
        if not inside.any():
            raise TargetError(
                f"{answer.name(own)} was answered everywhere, and has no border.",
                f"Ask about all of it: component {self.x:g},{self.y:g}.",
            )
        classes = [own if self.reference is None else answer.find(self.reference)]
        if self.against is not None:
            classes = [*find_two(answer, classes[0], self.against)]
        seed = answer.seed(inside, *classes)
        names = " rather than ".join(answer.name(c) for c in classes)
        part = (
            f"the part of {int(whole.sum())} pixels of {answer.name(own)} at {self.x:g},{self.y:g}"
        )
        where = f"at the border of {part}" if self.band else f"in {part}"
        signs = [1.0, -1.0][: len(classes)]
        return seed, answer.record(
            "region",
            f"what speaks for {names} {where}?",
            seed,
            inside,
            classes,
            signs,
            box=mask_region(answer.frame, inside).bounds,
        )


@dataclass(frozen=True)
class BoxScore(Target):
    """A class's logit at one of a detector's boxes.

    Parameters
    ----------
    which
        Rank of a reported box, best first from 0; or a `Box` of the photograph, for the
        candidate that overlaps it most (with the class's best score among those within 0.05 of
        the best overlap).
    reference
        The class; None takes the box's own.
    against
        Another class whose logit at the same candidate is taken away.
    side
        Ask about a side of the box instead of a class: ``left``, ``top``, ``right`` or
        ``bottom``, in pixels of the photograph.
    """

    which: int | Box
    reference: ClassRef | None = None
    against: ClassRef | None = None
    side: str = ""

    @property
    def asked(self) -> str:
        """As in ``box 2 dog``."""
        which = self.which.text if isinstance(self.which, Box) else f"box {self.which}"
        return _asked(which, self.side, self.reference, self.against)

    def resolve(self, scores: Any, label: Any = None) -> Resolved:
        """Return the seed at the box's candidate.

        Raises
        ------
        TargetError
            If the model is no detector, or there is no such box, class or side.
        """
        answer = need_detections(scores, self)
        candidate, c, where = self._found(answer)
        if self.side:
            return self._side(answer, candidate, c, where)
        classes = [c]
        if self.against is not None:
            classes = [*find_two(answer, c, self.against)]
        seed = answer.seed(candidate, *classes)
        names = " rather than ".join(answer.name(index) for index in classes)
        signs = [1.0, -1.0][: len(classes)]
        return seed, answer.record(
            "box", f"why {names} at {where}?", seed, candidate, classes, signs
        )

    def _found(self, answer: Detections) -> tuple[int, int, str]:
        given = None if self.reference is None else answer.find(self.reference)
        if isinstance(self.which, Box):
            candidate = nearest(answer, self.which, given)
            c = int(answer.scores[candidate].argmax()) if given is None else given
            return candidate, c, self.which.text
        kept = answer.kept
        if not 0 <= self.which < len(kept):
            raise TargetError(
                f"There is no box {self.which}: the detector reports {len(kept)}.",
                "Reported, best first: " + "; ".join(one.text for one in kept[:8]) + "."
                if kept
                else "Ask about one that should be there: missed LEFT,TOP,RIGHT,BOTTOM CLASS.",
            )
        one = kept[self.which]
        return one.candidate, one.entry.index if given is None else given, f"box {self.which}"

    def _side(self, answer: Detections, candidate: int, c: int, where: str) -> Resolved:
        sides = ("left", "top", "right", "bottom")
        if self.side not in sides:
            raise TargetError(f"A box has no side {self.side!r}.", f"Sides: {', '.join(sides)}.")
        weights = np.eye(4)[sides.index(self.side)]
        seed = answer.box_seed(candidate, c, weights)
        text = f"what sets the {self.side} side of {where}?"
        return seed, answer.record("side", text, seed, candidate, [c], [1.0])


@dataclass(frozen=True)
class Missed(Target):
    """An object that the detector should have found: its class's logit at the best candidate.

    Parameters
    ----------
    box
        Where the object is, in pixels of the photograph.
    reference
        Its class.
    """

    box: Box
    reference: ClassRef

    @property
    def asked(self) -> str:
        """As in ``missed 120,40,260,300 dog``."""
        return _asked("missed", self.box.text.removeprefix("box "), self.reference)

    def resolve(self, scores: Any, label: Any = None) -> Resolved:
        """Return the one-hot seed of the class at the candidate that comes nearest; its stage.

        Raises
        ------
        TargetError
            If the model is no detector or the class is unknown.
        """
        answer = need_detections(scores, self)
        c = answer.find(self.reference)
        lost = lost_stage(answer, self.box, c)
        seed = answer.seed(lost.candidate, c)
        text = f"what speaks for the missed {answer.name(c)} at {self.box.text}?"
        record = answer.record("missed", text, seed, lost.candidate, [c], [1.0], c, lost.text)
        return seed, replace(record, box=self.box.bounds)


def _asked(
    kind: str, where: str, reference: ClassRef | None, against: ClassRef | None = None
) -> str:
    classes = " vs ".join(str(one) for one in (reference, against) if one is not None)
    return " ".join(word for word in (kind, where.removeprefix(f"{kind} "), classes) if word)


FOUND_FROM = 0.5
"""Overlap with the object from which a candidate counts as its own, as in COCO's AP50 and TIDE."""

NEAR = 0.05


@dataclass(frozen=True)
class Lost:
    """Where a detector lost an object.

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


def lost_stage(answer: Detections, box: Box, index: int) -> Lost:
    """Return at which stage a detector lost an object of a class.

    The candidate is the one with the best score for the class among those that overlap the object
    enough; without any, the one with the largest overlap.
    """
    overlap = overlaps(np.array([box.bounds]), answer.boxes_of(index))[0]
    overlap = np.where(answer.present(index), overlap, 0.0)
    enough = np.flatnonzero(overlap >= FOUND_FROM)
    score = answer.scores[:, index]
    if not enough.size:
        m = int(overlap.argmax())
        text = f"No candidate overlaps it by {FOUND_FROM:g}; the nearest does by {overlap[m]:.2f}."
        return Lost("candidate", m, float(overlap[m]), float(score[m]), text)
    m = int(enough[score[enough].argmax()])
    facts = (m, float(overlap[m]), float(score[m]))
    threshold = answer.settings.threshold
    if any(one.entry.index == index and one.candidate in set(enough) for one in answer.kept):
        return Lost("", *facts, "It is found.")
    other = int(answer.scores[m].argmax())
    if score[m] <= threshold or (answer.settings.single and other != index):
        if other != index and answer.scores[m, other] > threshold:
            text = (
                f"The candidate there says {answer.entry(m, other).text}; "
                f"{answer.entry(m, index).text}."
            )
            return Lost("class", *facts, text)
        text = f"Its score {score[m]:.2f} is not above the threshold {threshold:g}."
        return Lost("threshold", *facts, text)
    by = {k: better for k, c, better in answer.suppression(threshold) if c == index}
    if m not in by:
        text = f"{answer.settings.topk} of its {answer.settings.topk_in} have a better score."
        return Lost("topk", *facts, text)
    if by.get(m) is not None:
        text = (
            f"It was suppressed by candidate {by[m]} ({score[by[m]]:.2f}), whose box overlaps its "
            f"by more than {answer.settings.overlap:g}."
        )
        return Lost("suppression", *facts, text, by[m])
    return Lost("limit", *facts, f"{answer.settings.most} boxes have a better score.")


def nearest(answer: Detections, box: Box, index: int | None) -> int:
    """Return the candidate that overlaps a box most; near ties go to the better score."""
    overlap = overlaps(np.array([box.bounds]), answer.boxes_of(index))[0]
    overlap = np.where(answer.present(index), overlap, 0.0)
    if not overlap.any():
        raise TargetError(
            f"No candidate overlaps {box.text}.",
            "A box is left,top,right,bottom in pixels of the photograph.",
        )
    score = answer.scores.max(1) if index is None else answer.scores[:, index]
    close = np.flatnonzero(overlap >= overlap.max() - NEAR)
    return int(close[score[close].argmax()])
