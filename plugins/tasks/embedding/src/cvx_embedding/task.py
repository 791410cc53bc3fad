"""Embeddings: which image of a gallery is the most similar, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

import cvx_core as cvx
from cvx_core.tasks import (
    Classes,
    GroundTruth,
    Judgement,
    ModelOutput,
    Resolved,
    Task,
    VectorPrediction,
    check_finite,
    read_scores,
    required_label,
)

NOBODY = "none"


@dataclass(frozen=True)
class Embedding(Task):
    """The most similar image of a gallery, by cosine similarity; its label is the prediction.

    Classes are the images of the gallery, such as ``anna/1.jpg``; their label is the folder, or
    the name without ending. The ground truth is a label, an image of the gallery, or ``none``.
    Error and margin are those of the triplet loss: similarity to the nearest image of another
    label minus that to the nearest of the true one (Schroff 2015, arXiv:1503.03832).

    Parameters
    ----------
    threshold
        Similarity from which two images match, in [-1, 1]; None: the nearest image matches.
    """

    threshold: float | None = None

    name = "embedding"
    whole_image = True
    pyramid = False
    unit = "cosine"
    label_form = "LABEL"
    target_forms: ClassVar[Mapping[str, str]] = {"nearest": "LABEL or LABEL vs LABEL"}

    def __post_init__(self) -> None:
        given = self.threshold
        if given is not None and not (isinstance(given, int | float) and -1 <= given <= 1):
            raise cvx.OptionError(f"threshold must lie between -1 and 1, got {given!r}.")

    def readout(self, output: Any, classes: Classes = None) -> Tensor:
        """Return similarities (B, gallery)."""
        return read_scores(output, 2, classes)

    def parse(self, found: Any) -> ModelOutput:
        """Return similarities of shape (B, gallery) as an output."""
        return self.scores(found, "(B, C)", least=1)

    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[cvx.Frame]
    ) -> list[cvx.Prediction]:
        """Return the neighbours of each image."""
        values = output.scores.detach().cpu().double().numpy()
        return [Neighbours(one, classes, self.threshold) for one in values]

    def link(self, output: ModelOutput) -> Tensor:
        """Return the similarities themselves, (B, gallery)."""
        return output.scores

    def parse_target(self, word: str, rest: str) -> cvx.Target | None:
        """Read ``nearest anna`` and ``nearest anna vs ben``."""
        label, _, against = rest.partition(" vs ")
        return Nearest(label.strip(), against.strip() or None)

    def mistakes(self, prediction: Any, ground_truth: GroundTruth) -> list[cvx.Mistake]:
        """Return the wrong, missed or false match, if there is one."""
        found, threshold = Neighbours.require(prediction, self), prediction.threshold
        true, matched = found.images_of(ground_truth), found.matched
        if (matched is None and not true) or matched in true:
            return []
        q, y = found.predicted, found.nearest(true) if true else None
        target: cvx.Target
        if y is None and threshold is None:
            raise cvx.TargetError(
                "The ground truth is none, and without a threshold every image matches one.",
                "Pass task='embedding:threshold=0.4', or a label of the gallery.",
            )
        if y is None:
            kind, target, offset = "false match", cvx.ClassScore(q), threshold
        elif matched is None:
            kind, target, offset = "missed match", Missing(y), -threshold
        else:
            kind, target, offset = "wrong match", cvx.Contrast(q, y), 0.0
        margin = found.value(target.resolve(found)[0]) - offset
        predicted = None if matched is None else found.entry(q)
        nearest = None if y is None else found.entry(y)
        loss = max(margin, 0.0)
        mistake = WrongMatch(kind, target, None, predicted, nearest, loss, margin)
        return [replace(mistake, truth=ground_truth, offset=offset)]


@dataclass(frozen=True, eq=False)
class Neighbours(VectorPrediction):
    """Cosine similarities (gallery,) of one image, with the names of the gallery's images."""

    similarities: npt.NDArray[np.float64]
    classes: Sequence[str] | None = None
    threshold: float | None = None

    task = "embedding"
    unit = "cosine"
    own_targets = "Targets of neighbours need a model of embeddings; give a class."

    def __post_init__(self) -> None:
        check_finite(self.similarities, "similarities")

    @property
    def outputs(self) -> npt.NDArray[np.float64]:
        """The similarities (gallery,)."""
        return self.similarities

    @property
    def matched(self) -> int | None:
        """The most similar image; None if it is below the threshold."""
        below = self.threshold is not None and self.similarities.max() < self.threshold
        return None if below else self.predicted

    def label(self, index: int) -> str:
        """Return the label of an image of the gallery."""
        folder, _, file = self.name(index).rpartition("/")
        return folder or file.rpartition(".")[0] or file

    def nearest(self, images: Sequence[int]) -> int:
        """Return the most similar of some images."""
        return max(images, key=lambda k: float(self.similarities[k]))

    def images_of(self, label: str | int) -> list[int]:
        """Return the images with a label, or with that of an image; none for ``none``."""
        labels = [self.label(k).casefold() for k in range(self.count)]
        wanted = str(label).strip().casefold()
        if wanted not in labels:
            if wanted == NOBODY:
                return []
            wanted = labels[self.find(label)]
        return [k for k, one in enumerate(labels) if one == wanted]

    def verdict(self, label: Any) -> dict[str, Any]:
        """Return the true label, and whether the most similar image has it."""
        if label is None:
            return {"label": None}
        true, matched = self.images_of(label), self.matched
        correct = not true if matched is None else matched in true
        return {"label": None, "truth": self.label(true[0]) if true else NOBODY, "correct": correct}

    def resolve_error(self, label: Any) -> Resolved:
        """Return the gradient of the triplet loss, which is the seed of the margin."""
        return self.resolve_margin(required_label(label, "error"))

    def resolve_margin(self, label: Any) -> Resolved:
        """Return the seed of the wrong match."""
        mistakes = Embedding().mistakes(self, required_label(label, "margin"))
        seed = mistakes[0].target.resolve(self)[0] if mistakes else np.zeros(self.count)
        text = mistakes[0].text if mistakes else "the match is correct: there is no error"
        note = "" if mistakes else "The match is correct, so the margin and its map are zero."
        return seed, self.record("margin", text, seed, label=label, note=note)


@dataclass(frozen=True)
class Nearest(cvx.Target):
    """Similarity to the nearest image of a label, less that of another label."""

    label: str
    against: str | None = None

    @property
    def asked(self) -> str:
        """As in ``nearest anna vs ben``."""
        return f"nearest {self.label}" + (f" vs {self.against}" if self.against else "")

    def resolve(self, prediction: cvx.Prediction, label: Any = None) -> Resolved:
        """Return the seed of the images found."""
        found = Neighbours.require(prediction, self)
        images = [found.nearest(found.images_of(one)) for one in (self.label, self.against) if one]
        target = cvx.Contrast(*images) if self.against else cvx.ClassScore(images[0])
        return target.resolve(found, label)


@dataclass(frozen=True)
class Missing(cvx.Target):
    """Why an image of the gallery is not similar enough: seed -1_k."""

    reference: int
    class_fields = ("reference",)

    def resolve(self, prediction: cvx.Prediction, label: Any = None) -> Resolved:
        """Return the negative one-hot seed of the image."""
        found = Neighbours.require(prediction, self)
        k = found.find(self.reference)
        text = f"why not {found.name(k)}?"
        return -found.one_hot(k), found.record(
            "margin", text, -found.one_hot(k), [k], [-1.0], label
        )


@dataclass(frozen=True)
class WrongMatch(cvx.Mistake):
    """A wrong, missed or false match. The margin is in cosine similarity."""

    truth: Any = None
    offset: float = 0.0

    def judge(self, prediction: cvx.Prediction) -> Judgement:
        """Return the margin of the same images, and whether the match is right."""
        found = Neighbours.require(prediction, self.target)
        margin = found.value(self.target.resolve(found)[0]) - self.offset
        nearest = found.entry(found.predicted).text
        return Judgement(margin, bool(found.verdict(self.truth)["correct"]), nearest)
