"""Prediction of a detector for one image: its candidates, and which of them it reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core.errors import TargetError
from cvx_core.images.regions import Frame
from cvx_core.tasks.classes import ClassEntry, ClassRef, Detection, TargetRecord
from cvx_core.tasks.detection.candidates import DetectionCandidates
from cvx_core.tasks.prediction import Prediction, Resolved, Seed, check_finite, required_label

Floats = npt.NDArray[np.float64]

NOTHING = "nothing"


@dataclass(frozen=True, eq=False)
class DetectionPrediction(Prediction):
    """Prediction of a detector for one image.

    `Predicted` asks about the best box, `ClassScore` and `Contrast` about the candidate with the
    best score of the class, whether it is reported or not; `cvx_core.BoxScore` and
    `cvx_core.Missed` about any other.

    Parameters
    ----------
    logits
        (M, C), float64.
    boxes
        (M, 4), or (M, C, 4) where each class has its own, in pixels of the network's input.
    settings
        The `DetectionCandidates` they came from: how scores are made and boxes suppressed.
    classes
        Names by index, or None.
    frame
        How the network's input lies over the image.
    valid
        (M,) or (M, C): which candidates there are.
    find_mistakes
        From a prediction and ground truth to its mistakes, the most costly first; `Error` and
        `Margin` explain the first.
    """

    logits: Floats
    boxes: Floats
    settings: DetectionCandidates
    classes: Sequence[str] | None = None
    frame: Frame = field(default_factory=lambda: Frame((0.0, 0.0, 1.0, 1.0), (1, 1)))
    valid: npt.NDArray[np.bool_] | None = None
    find_mistakes: Callable[[Any, Any], Sequence[Any]] | None = None

    task = "detection"
    own_targets = "Targets of boxes need a detector; give a class."

    def __post_init__(self) -> None:
        check_finite(self.logits, "logits")
        check_finite(self.boxes, "sides of boxes")

    @classmethod
    def of(
        cls,
        candidates: DetectionCandidates,
        i: int,
        classes: Sequence[str] | None,
        frame: Frame,
        find_mistakes: Callable[[Any, Any], Sequence[Any]] | None = None,
    ) -> DetectionPrediction:
        """Return the prediction for one image of a batch.

        A background class behind the named ones is called ``nothing``.
        """
        if classes is not None and len(classes) == candidates.logits.shape[2] - 1:
            classes = (*classes, NOTHING)
        valid = None if candidates.valid is None else candidates.valid[i].cpu().numpy()
        logits, boxes = (
            t[i].detach().cpu().double().numpy() for t in (candidates.logits, candidates.boxes)
        )
        return cls(logits, boxes, candidates, classes, frame, valid, find_mistakes)

    @property
    def outputs(self) -> Floats:
        """All logits and sides, (M * C + M * 4,) or with C boxes for each candidate."""
        return np.concatenate([self.logits.reshape(-1), self.boxes.reshape(-1)])

    @property
    def count(self) -> int:
        """How many classes there are."""
        return int(self.logits.shape[1])

    @cached_property
    def scores(self) -> Floats:
        """Scores in [0, 1], (M, C); those of the background and of absent candidates are 0."""
        if self.settings.exclusive:
            shifted = np.exp(self.logits - self.logits.max(1, keepdims=True))
            scores = shifted / shifted.sum(1, keepdims=True)
        else:
            scores = 1.0 / (1.0 + np.exp(-self.logits.clip(-700, 700)))
        if self.settings.background is not None:
            scores[:, self.settings.background] = 0.0
        if self.valid is not None:
            scores[~self.valid] = 0.0
        return np.asarray(scores)

    def present(self, index: int | None) -> npt.NDArray[np.bool_]:
        """Return which candidates there are for a class (None: for each one's best), (M,)."""
        if self.valid is None:
            return np.ones(len(self.logits), dtype=bool)
        return self.valid if self.valid.ndim == 1 else self._of_class(self.valid, index)

    def _of_class(self, values: npt.NDArray[Any], index: int | None) -> npt.NDArray[Any]:
        """Pick (M, ...) out of (M, C, ...)."""
        which = self.scores.argmax(1) if index is None else index
        return np.asarray(values[np.arange(len(values)), which])

    def boxes_of(self, index: int | None) -> Floats:
        """Return the boxes (M, 4) of a class (None: of each one's best), in image pixels."""
        boxes = self.boxes if self.boxes.ndim == 2 else self._of_class(self.boxes, index)
        if self.settings.relative:
            boxes = boxes * np.array(self.frame.size * 2, dtype=np.float64)
        return self.frame.to_image(boxes)

    def box(self, candidate: int, index: int) -> tuple[float, float, float, float]:
        """Return a candidate's box for a class, in pixels of the image."""
        left, top, right, bottom = map(float, self.boxes_of(index)[candidate])
        return left, top, right, bottom

    def entry(self, candidate: int, index: int) -> ClassEntry:
        """Return a class with its logit and score for a candidate."""
        return ClassEntry(
            index,
            self.name(index),
            float(self.logits[candidate, index]),
            float(self.scores[candidate, index]),
        )

    @cached_property
    def kept(self) -> tuple[Detection, ...]:
        """What the detector reports, best first: above the threshold and not suppressed."""
        above = self.suppression(self.settings.threshold)
        found = sorted((-self.scores[m, c], m, c) for m, c, by in above if by is None)
        return tuple(
            Detection(k, m, self.entry(m, c), self._reported(m, c))
            for k, (_, m, c) in enumerate(found[: self.settings.most])
        )

    def _reported(self, candidate: int, index: int) -> tuple[float, float, float, float]:
        left, top, right, bottom = self.box(candidate, index)
        if not self.settings.clip or self.frame.image_size is None:
            return left, top, right, bottom
        width, height = self.frame.image_size
        return (
            min(max(left, 0.0), width),
            min(max(top, 0.0), height),
            min(max(right, 0.0), width),
            min(max(bottom, 0.0), height),
        )

    def suppression(self, threshold: float) -> list[tuple[int, int, int | None]]:
        """Return what happens to each candidate and class above a threshold.

        Returns
        -------
        list of (candidate, class, candidate that suppressed it or None)
            By class, best first.
        """
        pairs: list[tuple[int, int, int | None]] = []
        compared = self.compared(threshold)
        for c in np.flatnonzero(compared.any(0)).tolist():
            column = self.scores[:, c]
            above = np.flatnonzero(compared[:, c])
            order = above[np.argsort(-column[above], kind="stable")]
            if self.settings.overlap is None:
                pairs += [(int(m), c, None) for m in order]
                continue
            boxes = self.boxes_of(c)
            by: dict[int, int] = {}
            for k, m in enumerate(order):
                if int(m) in by:
                    continue
                rest = order[k + 1 :]
                near = rest[overlaps(boxes[m][None], boxes[rest])[0] > self.settings.overlap]
                for other in near:
                    by.setdefault(int(other), int(m))
            pairs += [(int(m), c, by.get(int(m))) for m in order]
        return pairs

    def compared(self, threshold: float) -> npt.NDArray[np.bool_]:
        """Return which pairs of candidate and class (M, C) go on to suppression."""
        found = np.asarray(self.scores > threshold)
        if self.settings.single:
            found &= np.arange(self.count) == self.scores.argmax(1)[:, None]
        if self.settings.topk is None:
            return found
        if self.settings.topk_in == "class":
            groups = [found[:, c : c + 1] for c in range(self.count)]
            scores = [self.scores[:, c : c + 1] for c in range(self.count)]
        else:
            ends = np.cumsum(self.settings.levels or (len(found),))[:-1]
            groups, scores = np.split(found, ends), np.split(self.scores, ends)
        for group, values in zip(groups, scores, strict=True):
            rows, columns = np.nonzero(group)
            order = np.argsort(-values[rows, columns], kind="stable")[self.settings.topk :]
            group[rows[order], columns[order]] = False
        return found

    def seed(self, candidate: int, index: int, *minus: int) -> Seed:
        """Return the seed of a class's logit (less others') at a candidate."""
        seed = np.zeros(self.logits.size + self.boxes.size)
        start = candidate * self.count
        seed[start + index] = 1.0
        for other in minus:
            seed[start + other] -= 1.0
        return seed

    def box_seed(self, candidate: int, index: int, sides: npt.ArrayLike) -> Seed:
        """Return the seed that weighs the four sides of a candidate's box, in image pixels.

        The seeded scalar is sum(sides * box) up to a constant; gradients come per pixel of the
        image.
        """
        seed = np.zeros(self.logits.size + self.boxes.size)
        which = candidate if self.boxes.ndim == 2 else candidate * self.count + index
        left, top, right, bottom = self.frame.extent
        scale = np.array(
            [(right - left) / self.frame.size[0], (bottom - top) / self.frame.size[1]] * 2
        )
        if self.settings.relative:
            scale = scale * np.array(self.frame.size * 2, dtype=np.float64)
        start = self.logits.size + 4 * which
        seed[start : start + 4] = np.asarray(sides, dtype=np.float64) * scale
        return seed

    def record(
        self,
        kind: str,
        text: str,
        seed: Seed,
        candidate: int,
        classes: Sequence[int] = (),
        signs: Sequence[float] = (),
        label: int | None = None,
        note: str = "",
    ) -> TargetRecord:
        """Describe a resolved target, with the classes' scores at its candidate."""
        order = np.argsort(-self.scores[candidate], kind="stable")[:5]
        best = int(order[0])
        shown = classes[0] if classes else best
        single = len(classes) == 1
        return TargetRecord(
            kind=kind,
            text=text,
            score=self.value(seed),
            probability=float(self.scores[candidate, classes[0]]) if single else None,
            classes=tuple(self.entry(candidate, index) for index in classes),
            signs=tuple(float(sign) for sign in signs),
            predicted=self.entry(candidate, best),
            label=None if label is None else self.entry(candidate, label),
            top=tuple(self.entry(candidate, int(index)) for index in order),
            correct=None if label is None else label == best,
            note=note,
            box=self.box(candidate, shown),
            reported=self.kept,
        )

    def best(self, index: int) -> int:
        """Return the candidate with the best score for a class, reported or not.

        Raises
        ------
        TargetError
            If there are no candidates.
        """
        if not len(self.scores):
            raise TargetError(
                "The detector has no candidate boxes in this image.",
                "Explain another image; a detector whose first stage proposes boxes found none.",
            )
        return int(self.scores[:, index].argmax())

    def resolve_predicted(self, label: Any) -> Resolved:
        """Return the seed of the best reported box."""
        if not self.kept:
            raise TargetError(
                f"The detector reports nothing above {self.settings.threshold:g}.",
                "Give a class (its best candidate counts), or a box that should be "
                "there: missed LEFT,TOP,RIGHT,BOTTOM CLASS.",
            )
        first = self.kept[0]
        text = f"why {first.entry.name} there?"
        return self._about("predicted", text, first.candidate, first.entry.index)

    def resolve_class(self, reference: ClassRef, label: Any) -> Resolved:
        """Return the seed of a class at its best candidate."""
        c = self.find(reference)
        text = f"what supports {self.name(c)} where its score is best?"
        return self._about("class", text, self.best(c), c)

    def resolve_contrast(self, p: ClassRef, q: ClassRef, label: Any) -> Resolved:
        """Return the seed of a class less another at the best candidate of the first."""
        first, second = self.find_two(p, q)
        text = f"why {self.name(first)} rather than {self.name(second)} there?"
        return self._about("contrast", text, self.best(first), first, second)

    def resolve_distribution(self, label: Any) -> Resolved:
        """Return the seed of all that is reported, each box weighted by its score."""
        seed = np.zeros(self.logits.size + self.boxes.size)
        for one in self.kept:
            seed[one.candidate * self.count + one.entry.index] = one.entry.probability
        if not self.kept:
            raise TargetError("The detector reports nothing.", "Give a class.")
        text = "what supports all reported boxes?"
        return seed, self.record("distribution", text, seed, self.kept[0].candidate)

    def resolve_error(self, label: Any) -> Resolved:
        """Return the seed of the most costly mistake."""
        return self._most_costly("error", label)

    def resolve_margin(self, label: Any) -> Resolved:
        """Return the seed of the most costly mistake."""
        return self._most_costly("margin", label)

    def _most_costly(self, kind: str, label: Any) -> Resolved:
        required_label(label, kind)
        if self.find_mistakes is None:
            raise TargetError(
                f"The target {kind!r} needs a prediction of a model.",
                "Pass one of model.predict(images).",
            )
        mistakes = self.find_mistakes(self, label)
        if mistakes:
            found: Resolved = mistakes[0].target.resolve(self, label)
            return found
        seed = np.zeros(self.logits.size + self.boxes.size)
        candidate = self.kept[0].candidate if self.kept else 0
        note = "The prediction is correct, so its map is zero."
        text = "the boxes are correct: there is no mistake"
        return seed, self.record(kind, text, seed, candidate, note=note)

    def _about(self, kind: str, text: str, candidate: int, c: int, *minus: int) -> Resolved:
        seed = self.seed(candidate, c, *minus)
        signs = [1.0, *[-1.0] * len(minus)]
        return seed, self.record(kind, text, seed, candidate, [c, *minus], signs)


def overlaps(a: Floats, b: Floats) -> Floats:
    """Return the intersection over union of boxes (n, 4) and (m, 4), (n, m) in [0, 1]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).clip(min=0).prod(axis=1) for box in (a, b))
    whole = area_a[:, None] + area_b[None] - shared
    found: Floats = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return found
