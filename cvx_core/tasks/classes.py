"""Classes of a model: references, look-up by name or index, scores of one class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvx_core._util.text import shortened
from cvx_core.errors import TargetError, did_you_mean


@dataclass(frozen=True)
class Detection:
    """One object that a detector reports.

    Attributes
    ----------
    index
        Its rank by score, from 0.
    candidate
        Which candidate it is.
    entry
        Its class with logit and score.
    box
        (left, top, right, bottom) in pixels of the image.
    """

    index: int
    candidate: int
    entry: ClassEntry
    box: tuple[float, float, float, float]

    @property
    def text(self) -> str:
        """As in ``box 2: dog 49.9 %``."""
        return f"box {self.index}: {self.entry.text}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "index": self.index,
            "candidate": self.candidate,
            "class": vars(self.entry),
            "box": list(self.box),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Detection:
        """Rebuild it from `to_dict`."""
        left, top, right, bottom = map(float, data["box"])
        entry = ClassEntry(**data["class"])
        return cls(int(data["index"]), int(data["candidate"]), entry, (left, top, right, bottom))


@dataclass(frozen=True)
class TargetRecord:
    """A target as it was resolved for one image; part of every explanation.

    Attributes
    ----------
    kind
        One of ``predicted``, ``class``, ``distribution``, ``contrast``, ``error``, ``margin``,
        ``region``, ``pixel``, ``box``, ``side``, ``missed``, or what a target of your own says.
    text
        The target in words, with class names.
    score
        The seeded scalar <seed, logits>, in `unit`.
    probability
        Probability of the class; None where the target is not about one class.
    classes
        The classes that the seed names, with the sign they have in it in `signs`.
    predicted, label
        The predicted class, and the true class if one was given.
    truth
        The ground truth in words where it is not one class, as in ``cat, sofa`` or ``61.5 years``.
    correct
        Whether the prediction is right; None without ground truth, or where the task can't say.
    top
        The five most probable classes, best first.
    note
        What a reader must know to read the map, or an empty string.
    box
        Rectangle (left, top, right, bottom) of the image that the target is about, or None.
    asked
        The target as on the command line, where its classes don't identify it.
    reported
        What a detector reports, best first; None for other models.
    unit
        Unit of the score and the map where it is not that of the outputs, or an empty string.
    """

    kind: str
    text: str
    score: float
    probability: float | None
    classes: tuple[ClassEntry, ...]
    signs: tuple[float, ...]
    predicted: ClassEntry
    label: ClassEntry | None
    top: tuple[ClassEntry, ...]
    note: str = ""
    truth: str = ""
    correct: bool | None = None
    box: tuple[float, float, float, float] | None = None
    asked: str = ""
    reported: tuple[Detection, ...] | None = None
    unit: str = ""

    def __repr__(self) -> str:
        return f"<TargetRecord {shortened(self.text)}>"

    @property
    def slug(self) -> str:
        """The target in a form fit for file names: at most 60 of ``[a-z0-9-]``."""
        names = "-vs-".join(entry.name for entry in self.classes)
        text = self.kind if self.kind in _UNIQUE_PER_IMAGE else self.asked or f"{self.kind}-{names}"
        slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-")
        return slug or "target"

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {
            "kind": self.kind,
            "text": self.text,
            "score": self.score,
            "probability": self.probability,
            "classes": [vars(entry) for entry in self.classes],
            "signs": list(self.signs),
            "predicted": vars(self.predicted),
            "label": vars(self.label) if self.label else None,
            "top": [vars(entry) for entry in self.top],
            "truth": self.truth,
            "correct": self.correct,
            "note": self.note,
            "box": None if self.box is None else list(self.box),
            "asked": self.asked,
            "reported": None if self.reported is None else [d.to_dict() for d in self.reported],
            "unit": self.unit,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TargetRecord:
        """Rebuild a record from `to_dict`."""
        reported = data.get("reported")
        return cls(
            kind=str(data["kind"]),
            text=str(data["text"]),
            score=float(data["score"]),
            probability=None if data["probability"] is None else float(data["probability"]),
            classes=tuple(ClassEntry(**entry) for entry in data["classes"]),
            signs=tuple(float(sign) for sign in data["signs"]),
            predicted=ClassEntry(**data["predicted"]),
            label=None if data["label"] is None else ClassEntry(**data["label"]),
            top=tuple(ClassEntry(**entry) for entry in data["top"]),
            note=str(data["note"]),
            truth=str(data.get("truth", "")),
            correct=data["correct"],
            box=tuple(data["box"]) if data.get("box") else None,
            asked=str(data.get("asked", "")),
            reported=None if reported is None else tuple(map(Detection.from_dict, reported)),
            unit=str(data.get("unit", "")),
        )


_UNIQUE_PER_IMAGE = {"predicted", "distribution", "error", "margin"}


ClassRef = str | int
"""A class, by name or by index."""


SUGGESTED = 5
"""Class names suggested instead of an unknown one."""


@dataclass(frozen=True)
class ClassEntry:
    """One class of a prediction.

    Attributes
    ----------
    index, name
        Position among the outputs and its name (the index as text where the model names none).
    score
        The logit, or the value of a quantity.
    probability
        Its probability by the task, in [0, 1]; None for a value that has none.
    unit
        Of a value without probability; may be empty.
    """

    index: int
    name: str
    score: float
    probability: float | None
    unit: str = ""

    @property
    def text(self) -> str:
        """The name with probability or value, as in ``tabby 18.7 %`` or ``age 58.9 years``."""
        return f"{self.name} {self.amount}"

    @property
    def amount(self) -> str:
        """The probability or the value with its unit, as in ``18.7 %`` or ``58.9 years``."""
        if self.probability is None:
            return f"{self.score:.3g} {self.unit}".rstrip()
        return _percent(self.probability)


NOTHING = (
    "background",
    "__background__",
    "bg",
    "nothing",
    "none",
    "void",
    "unlabeled",
    "unlabelled",
)
"""What segmenters call the class of pixels that belong to no object."""


def background(classes: Sequence[str] | None) -> int | None:
    """Return the background class: by its name, or the first where classes have no names."""
    if classes is None:
        return 0
    return next((k for k, name in enumerate(classes) if name.strip().lower() in NOTHING), None)


def find_class(reference: ClassRef, classes: Sequence[str] | None, count: int) -> int:
    """Return the index of a class given by name or by index.

    Names match exactly, then without regard to case. A name that several indices share
    is refused, with the indices. Text that is a number counts as an index unless a class
    has that name.

    Raises
    ------
    TargetError
        If there is no such class, or more than one; names that contain it, or near ones, are
        suggested.
    """
    if isinstance(reference, bool) or not isinstance(reference, str | int | np.integer):
        raise TargetError(f"A class must be a name (str) or an index (int), got {reference!r}.")
    if not isinstance(reference, str):
        index = int(reference)
        if not 0 <= index < count:
            raise TargetError(
                f"There is no class {index}: the model has {count} classes.",
                f"Indices go from 0 to {count - 1}.",
            )
        return index
    if classes is not None:
        for same in (str.__eq__, lambda a, b: a.casefold() == b.casefold()):
            found = [i for i, name in enumerate(classes) if same(name, reference.strip())]
            if len(found) == 1:
                return found[0]
            if found:
                raise TargetError(
                    f"{len(found)} classes are called {reference!r}.",
                    "Give the index: " + " or ".join(map(str, found)) + ".",
                )
    if re.fullmatch(r"\d{1,9}", reference.strip()):
        return find_class(int(reference), classes, count)
    if classes is None:
        raise TargetError(
            f"The model names no classes, so {reference!r} can't be found.",
            f"Give an index from 0 to {count - 1}, or pass classes=[...] to VisionModel.",
        )
    raise TargetError(
        f"The model has no class {reference!r}.",
        _suggested(reference, classes)
        or f"It has {count} classes; an index works too. 'cvx classes' lists them.",
    )


def find_two_classes(
    p: ClassRef, q: ClassRef, classes: Sequence[str] | None, count: int
) -> tuple[int, int]:
    """Return the indices of two different classes; see `find_class`.

    Raises
    ------
    TargetError
        If one is unknown, or both are the same.
    """
    found = find_class(p, classes, count), find_class(q, classes, count)
    if found[0] == found[1]:
        name = str(found[0]) if classes is None else classes[found[0]]
        raise TargetError(
            f"A contrast needs two classes, and both are {name!r}.",
            "Name a second class, or use one class alone.",
        )
    return found


def classes_with(text: str, classes: Sequence[str]) -> list[int]:
    """Return the indices of the classes whose name contains a text, without regard to case.

    Those that contain it as words of their own ("tiger cat" for "cat") come before those that
    only hold its letters ("catamaran").
    """
    wanted = text.strip().casefold()
    inside = [i for i, name in enumerate(classes) if wanted and wanted in name.casefold()]
    word = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    return sorted(inside, key=lambda i: word.search(classes[i].casefold()) is None)


def _suggested(reference: str, classes: Sequence[str]) -> str:
    found = list(dict.fromkeys(classes[i] for i in classes_with(reference, classes)))
    if not found:
        near = did_you_mean(reference, classes)
        return near and f"{near} An index works too; 'cvx classes' lists them."
    shown = " or ".join(repr(name) for name in found[:SUGGESTED])
    more = f" ({len(found) - SUGGESTED} more contain it)" if len(found) > SUGGESTED else ""
    return f"Did you mean {shown}?{more} An index works too; 'cvx classes' lists them."


def _percent(probability: float) -> str:
    """Return a probability for people: three digits, never a false 0 or 100."""
    percent = 100.0 * probability
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.1f} %"
