"""Records of a resolved target and of a detected object, as stored with every explanation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cvx_core.tasks.classes import ClassEntry


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
        (left, top, right, bottom) in pixels of the photograph.
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
        The question for people, with class names.
    score
        The seeded scalar <seed, logits>, in logits.
    probability
        Probability of the class asked about; None where the question is not about one class.
    classes
        The classes that the seed names, with the sign they have in it in `signs`.
    predicted, label
        The model's first answer, and the true class if one was given.
    top
        The five most probable classes, best first.
    note
        What a reader must know to read the map, or an empty string.
    box
        Rectangle (left, top, right, bottom) of the photograph that the question is about, or None.
    asked
        The question in few words, as on the command line, where its classes don't identify it.
    reported
        What a detector reports, best first; None for other models.
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
    box: tuple[float, float, float, float] | None = None
    asked: str = ""
    reported: tuple[Detection, ...] | None = None

    @property
    def correct(self) -> bool | None:
        """Whether the prediction equals the label; None without a label."""
        return None if self.label is None else self.predicted.index == self.label.index

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
            "correct": self.correct,
            "note": self.note,
            "box": None if self.box is None else list(self.box),
            "asked": self.asked,
            "reported": None if self.reported is None else [d.to_dict() for d in self.reported],
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
            box=tuple(data["box"]) if data.get("box") else None,
            asked=str(data.get("asked", "")),
            reported=None if reported is None else tuple(map(Detection.from_dict, reported)),
        )


_UNIQUE_PER_IMAGE = {"predicted", "distribution", "error", "margin"}
