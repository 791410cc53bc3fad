"""Key points, such as the joints of a body: a heat map for each, and its peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

import cvx_core as cvx
from cvx_core.tasks import (
    ClassEntry,
    Classes,
    GroundTruth,
    Judgement,
    ModelOutput,
    Resolved,
    TargetRecord,
    Task,
    check_finite,
    find_named,
    read_scores,
    required_label,
)

Values = npt.NDArray[np.float64]
Point = tuple[float, float]


@dataclass(frozen=True)
class KeyPoints(Task):
    """A heat map for each key point, whose peak is its position.

    The ground truth holds positions in pixels of the image by name: ``label={"nose": (120, 40)}``,
    or ``--label "nose=120,40; left eye=150,80"``; points that are left out are unknown. The margin
    of a misplaced point is the heat at the wrong position less that at the true one.

    Parameters
    ----------
    tolerance
        Largest distance that is no mistake, as a fraction of the longer side of the image
        (PCK: Yang and Ramanan 2013, doi:10.1109/TPAMI.2012.261). 0 or more.
    """

    tolerance: float = 0.05

    name = "key-points"
    unit = "heat"
    label_form = "NAME=X,Y;NAME=X,Y"

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise cvx.OptionError(f"tolerance must be 0 or more, got {self.tolerance}.")

    def readout(self, output: Any, classes: Classes = None) -> Tensor:
        """Return heat maps (B, K, h, w): ``heatmaps``, or as for a segmenter."""
        found = find_named(output, "heatmaps")
        return found if isinstance(found, Tensor) else read_scores(output, 4, classes)

    def parse(self, found: Any) -> ModelOutput:
        """Return heat maps of shape (B, K, h, w) as an output."""
        return self.scores(found, "(B, K, h, w)", least=1)

    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[cvx.Frame]
    ) -> list[cvx.Prediction]:
        """Return the key points of each image."""
        heat = output.scores.detach().cpu().double().numpy()
        more = (classes, self.tolerance)
        return [PointPrediction(h, f, *more) for h, f in zip(heat, frames, strict=True)]

    def link(self, output: ModelOutput) -> Tensor:
        """Return the heat itself, (B, K h w)."""
        return output.flat

    def read_label(
        self,
        label: GroundTruth,
        image: str | Path,
        classes: Sequence[str] | None,
        count: int | None = None,
    ) -> GroundTruth:
        """Return the true positions by name, from text."""
        return read_points(label)

    def mistakes(self, prediction: Any, ground_truth: GroundTruth) -> list[cvx.Mistake]:
        """Return the misplaced points, the farthest first."""
        found = PointPrediction.require(prediction, self)
        wrong: list[cvx.Mistake] = []
        for k, truth in found.true_points(ground_truth).items():
            target = Misplacement(k, found.place(k), truth)
            seed, _ = target.resolve(found)
            distance = found.distance(k, truth)
            if distance > found.limit and np.any(seed):  # one position of the grid is one place
                entry, margin = found.entry(k), found.value(seed)
                wrong.append(Misplaced("misplaced", target, None, entry, None, distance, margin))
        return sorted(wrong, key=lambda one: -one.loss)


@dataclass(frozen=True, eq=False)
class PointPrediction(cvx.Prediction):
    """Heat maps (K, h, w) of one image."""

    heat: Values
    frame: cvx.Frame
    classes: Sequence[str] | None = None
    tolerance: float = 0.05

    task = "key-points"

    def __post_init__(self) -> None:
        check_finite(self.heat, "heat values")

    @property
    def outputs(self) -> Values:
        """All heat (K h w,)."""
        return self.heat.reshape(-1)

    @property
    def count(self) -> int:
        """How many key points there are."""
        return len(self.heat)

    @property
    def limit(self) -> float:
        """Largest distance that is no mistake, in pixels of the image."""
        return self.tolerance * max(self.frame.image_size or self.frame.size)

    def place(self, index: int) -> Point:
        """Return the position (x, y) of a key point in pixels of the image."""
        row, column = np.unravel_index(self.heat[index].argmax(), self.heat.shape[1:])
        x, y = self.frame.centres(self.heat.shape[1:])
        return float(x[column]), float(y[row])

    def distance(self, index: int, truth: Point) -> float:
        """Return how far a key point is from its true position, in pixels of the image."""
        return float(np.hypot(*np.subtract(self.place(index), truth)))

    def entry(self, index: int) -> ClassEntry:
        """Return a key point with the heat at its position."""
        name = f"{self.name(index)} at {_text(self.place(index))}"
        return ClassEntry(index, name, float(self.heat[index].max()), None, "heat")

    def at(self, index: int, point: Point) -> Values:
        """Return the seed (K h w,) of the heat of a key point at a position."""
        seed = np.zeros(self.heat.shape)
        x, y = self.frame.centres(self.heat.shape[1:])
        seed[index, np.abs(y - point[1]).argmin(), np.abs(x - point[0]).argmin()] = 1.0
        return seed.reshape(-1)

    def true_points(self, label: GroundTruth) -> dict[int, Point]:
        """Return the true positions by index."""
        return {self.find(name): point for name, point in read_points(label).items()}

    def about(
        self, kind: str, text: str, seed: Values, indices: Sequence[int], label: Any, note: str = ""
    ) -> Resolved:
        """Return a seed with its description."""
        top = tuple(self.entry(int(k)) for k in (-self.heat.max((1, 2))).argsort()[:5])
        named = tuple(self.entry(k) for k in indices)
        true = {} if label is None else self.true_points(label)
        words = "; ".join(f"{self.name(k)} at {_text(point)}" for k, point in true.items())
        close = all(self.distance(k, point) <= self.limit for k, point in true.items())
        record = TargetRecord(
            kind, text, self.value(seed), None, named, (1.0,) * len(named), top[0], None, top, note,
            truth=words, correct=close if true else None,
        )  # fmt: skip
        return seed, record

    def resolve_predicted(self, label: Any) -> Resolved:
        """Return the seed of all peaks."""
        seed = sum((self.at(k, self.place(k)) for k in range(self.count)), np.zeros(self.heat.size))
        return self.about("predicted", "what supports all key points?", seed, (), label)

    def resolve_class(self, reference: int | str, label: Any) -> Resolved:
        """Return the seed of the peak of one key point."""
        k = self.find(reference)
        text = f"why is {self.name(k)} at {_text(self.place(k))}?"
        return self.about("class", text, self.at(k, self.place(k)), (k,), label)

    def resolve_error(self, label: Any) -> Resolved:
        """Return the seed of all misplaced points: wrong less true positions."""
        return self._wrong("error", required_label(label, "error"), "what misplaces the points?")

    def resolve_margin(self, label: Any) -> Resolved:
        """Return the seed of the farthest misplaced point."""
        return self._wrong("margin", required_label(label, "margin"), "", most=1)

    def _wrong(self, kind: str, label: Any, text: str, most: int | None = None) -> Resolved:
        targets = [one.target for one in KeyPoints().mistakes(self, label)][:most]
        found = [target.resolve(self) for target in targets]
        seed = sum((one for one, _ in found), np.zeros(self.heat.size))
        note = "" if found else "All points are within the tolerance: the map is zero."
        text = text or (found[0][1].text if found else "the points are correct: there is no error")
        return self.about(kind, text, seed, (), label, note)


@dataclass(frozen=True)
class Misplacement(cvx.Target):
    """Why a key point is at one position and not at another: seed 1 there, -1 here."""

    reference: int | str
    wrong: Point
    truth: Point
    class_fields = ("reference",)

    def resolve(self, prediction: cvx.Prediction, label: Any = None) -> Resolved:
        """Return the seed of the difference in heat."""
        found = PointPrediction.require(prediction, self)
        k = found.find(self.reference)
        text = f"why is {found.name(k)} at {_text(self.wrong)} and not at {_text(self.truth)}?"
        seed = found.at(k, self.wrong) - found.at(k, self.truth)
        return found.about("margin", text, seed, (k,), label)


@dataclass(frozen=True)
class Misplaced(cvx.Mistake):
    """A key point at a wrong position; its loss is the distance in pixels of the image."""

    def judge(self, prediction: cvx.Prediction) -> Judgement:
        """Return the margin between the same positions, and whether the point is right."""
        found = PointPrediction.require(prediction, self.target)
        assert isinstance(self.target, Misplacement)
        distance = found.distance(found.find(self.target.reference), self.target.truth)
        margin = found.value(self.target.resolve(found)[0])
        return Judgement(margin, distance <= found.limit, f"{distance:.0f} px off")


def read_points(label: GroundTruth) -> dict[int | str, Point]:
    """Return positions by name, from a mapping or text; raises `TargetError`."""
    pairs: Any = label.items() if isinstance(label, Mapping) else None
    if isinstance(label, str):
        parts = [one.partition("=") for one in label.split(";") if one.strip()]
        pairs = [(name.strip(), place.split(",")) for name, _, place in parts] or None
    try:
        return {name: (float(x), float(y)) for name, (x, y) in pairs}
    except (TypeError, ValueError):
        raise cvx.TargetError(
            f"label must hold positions by name, got {label!r}.",
            'Pass {"nose": (120, 40)}, or --label "nose=120,40; left eye=150,80".',
        ) from None


def _text(point: Point) -> str:
    return ",".join(f"{value:.0f}" for value in point)
