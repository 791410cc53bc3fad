"""Depth and other values for each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from cvx_core import Frame, InputError, Mistake, ModelError, Prediction, RegionScore, TargetError
from cvx_core.images import Region, components, mask_region
from cvx_core.tasks import (
    ClassEntry,
    Classes,
    ClassRef,
    GroundTruth,
    Judgement,
    ModelOutput,
    Resolved,
    TargetRecord,
    Task,
    check_finite,
    find_named,
    required_label,
)

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Depth(Task):
    """A value for each pixel, such as depth.

    The ground truth is a map of true values over the image: an array (H, W), or a file ``.npy``,
    ``.png`` (16 bits) or ``.tif``; zero, negative and nan are unknown. The error is z - y in the
    unit, at each known pixel.

    Parameters
    ----------
    unit
        Unit of the values, as in ``"m"``.
    scale
        Unit of one step of a ground truth file, as in ``0.001`` where it holds millimetres.
    tolerance
        Largest deviation that is no mistake, as a fraction of the true value.

    Examples
    --------
    >>> import torch
    >>> from cvx_core import VisionModel
    >>> model = VisionModel(torch.nn.Conv2d(3, 1, 1), task="depth:unit=m")
    >>> model.predict(torch.zeros(1, 3, 4, 4))[0].values.shape
    (4, 4)
    """

    unit: str = ""
    scale: float = 1.0
    tolerance: float = 0.25

    name = "depth"
    ground_truth = np.ndarray

    def readout(self, output: Any, classes: Classes = None) -> Tensor:
        """Return values (B, 1, h, w), of (B, h, w), (B, 1, h, w) or ``predicted_depth``."""
        found = output if isinstance(output, Tensor) else find_named(output, "predicted_depth")
        if isinstance(found, Tensor) and found.ndim == 3:
            found = found[:, None]
        if not isinstance(found, Tensor) or found.ndim != 4 or found.shape[1] != 1:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(output).__name__
            raise ModelError(
                f"The model must return one value for each pixel, (B, 1, h, w), got {got}.",
                "Pass readout=... to VisionModel: a function from that output to (B, 1, h, w).",
            )
        return found

    def parse(self, found: Any) -> ModelOutput:
        """Return values of shape (B, 1, h, w) as an output."""
        return self.scores(found, "(B, 1, h, w)", least=1)

    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[Frame]
    ) -> list[Prediction]:
        """Return the map of each image."""
        values = output.scores[:, 0].detach().cpu().double().numpy()
        more = (classes or ("depth",), self.unit, self.tolerance)
        return [DepthPrediction(v, f, *more) for v, f in zip(values, frames, strict=True)]

    def link(self, output: ModelOutput) -> Tensor:
        """Return the values themselves, (B, h w)."""
        return output.flat

    def read_label(
        self,
        label: GroundTruth,
        image: str | Path,
        classes: Sequence[str] | None,
        count: int | None = None,
    ) -> GroundTruth:
        """Return the true values of a file, (H, W) in the unit."""
        return read_values(Path(label), self.scale) if isinstance(label, str) else label

    def mistakes(self, prediction: DepthPrediction, ground_truth: GroundTruth) -> list[Mistake]:
        """Return the regions that are too far or too near, the most costly first."""
        return prediction.mistakes(ground_truth)


@dataclass(frozen=True, eq=False)
class DepthPrediction(Prediction):
    """Map of values (h, w) of one image, in `unit`."""

    values: Values
    frame: Frame
    classes: Sequence[str] | None = ("depth",)
    unit: str = ""
    tolerance: float = 0.25

    task = "depth"
    count = 1

    def __post_init__(self) -> None:
        check_finite(self.values, "values")

    @property
    def outputs(self) -> Values:
        """All values (h w,)."""
        return self.values.reshape(-1)

    def entry(self, inside: npt.NDArray[np.bool_]) -> ClassEntry:
        """Return the mean value in a part (h, w) of the map."""
        return ClassEntry(0, self.name(0), float(self.values[inside].mean()), None, self.unit)

    def true_values(self, label: GroundTruth) -> Values:
        """Return the true values on the grid of the map, (h, w); nan where unknown."""
        true = np.asarray(label, dtype=np.float64)
        if true.ndim != 2:
            raise TargetError(
                f"label must be a map of true values (H, W), got shape {true.shape}.",
                "Pass an array over the image, or the path of a file.",
            )
        (h, w), (x, y) = true.shape, self.frame.centres(self.values.shape)
        across, down = self.frame.image_size or (w, h)
        columns, rows = x / across * w, y / down * h
        seen = ((rows >= 0) & (rows < h))[:, None] & (columns >= 0) & (columns < w)
        rows = np.floor(rows).clip(0, h - 1).astype(int)
        columns = np.floor(columns).clip(0, w - 1).astype(int)
        found = true[rows][:, columns]
        return np.where(seen & (found > 0), found, np.nan)

    def mistakes(self, label: GroundTruth) -> list[Mistake]:
        """Return the connected regions that deviate beyond the tolerance on one side."""
        true = self.true_values(label)
        off = self.values - true
        wrong = np.where(np.abs(off) > self.tolerance * true, np.sign(off), 0).astype(np.int64)
        parts, found = components(wrong), []
        for part in np.unique(parts[wrong != 0]):
            inside = parts == part
            region, sign = mask_region(self.frame, inside), float(wrong[inside][0])
            mean, kind = float(np.abs(off[inside]).mean()), "too far" if sign > 0 else "too near"
            target, loss = SignedRegion(region, sign=sign), mean * float(inside.mean())
            one = WrongDepth(kind, target, region, self.entry(inside), None, loss, mean, true)
            found.append(one)
        return sorted(found, key=lambda one: -one.loss)

    def about(
        self, kind: str, text: str, inside: Any, sign: float = 1.0, seed: Values | None = None
    ) -> Resolved:
        """Return the seed of the mean value in a part (h, w) of the map, and its description."""
        weights = sign * inside / inside.sum() if seed is None else seed
        entry = self.entry(inside)
        box = None if inside.all() else mask_region(self.frame, inside).bounds
        note = f"The mean over {int(inside.sum())} of {inside.size} pixels."
        flat = np.asarray(weights).reshape(-1)
        score, one = self.value(flat), (entry,)
        kept = (kind, text, score, None, one, (sign,), entry, None, one, note)
        return flat, TargetRecord(*kept, box=box)

    def resolve_predicted(self, label: Any) -> Resolved:
        """Return the seed of the mean value of the whole map."""
        whole = np.ones(self.values.shape, dtype=bool)
        return self.about("predicted", f"what supports the mean {self.name(0)}?", whole)

    def resolve_region(
        self, region: Region, reference: ClassRef | None, against: ClassRef | None, label: Any
    ) -> Resolved:
        """Return the seed of the mean value in a region."""
        if reference is not None or against is not None:
            raise TargetError("The values have no classes.", "Give the region alone.")
        inside = region.on_grid(self.frame, self.values.shape)
        return self.about("region", f"what supports {self.name(0)} in {region.text}?", inside)

    def resolve_error(self, label: Any) -> Resolved:
        """Return (z - y) / n over the n known pixels, as a constant."""
        off = self.values - self.true_values(required_label(label, "error"))
        known = np.isfinite(off)
        if not known.any():
            raise TargetError(
                "The ground truth is unknown at all pixels.", "0 and nan are unknown."
            )
        seed = np.where(known, off, 0.0) / known.sum()
        return self.about("error", "what causes the error?", known, seed=seed)

    def resolve_margin(self, label: Any) -> Resolved:
        """Return the seed of the most costly region."""
        found = self.mistakes(required_label(label, "margin"))
        return found[0].target.resolve(self) if found else self.resolve_error(label)


@dataclass(frozen=True)
class SignedRegion(RegionScore):
    """Why a region is too far (sign 1) or too near (sign -1)."""

    sign: float = 1.0

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the signed seed of the mean value in the region."""
        found = DepthPrediction.require(prediction, self)
        inside = self.region.on_grid(found.frame, found.values.shape)
        text = f"why is {self.region.text} too {'far' if self.sign > 0 else 'near'}?"
        return found.about("margin", text, inside, self.sign)


@dataclass(frozen=True, eq=False)
class WrongDepth(Mistake):
    """A region that is too far or too near. The margin is its mean deviation, in the unit."""

    truth: Values

    def judge(self, prediction: Prediction) -> Judgement:
        """Return the mean deviation on the same side; right below the tolerance of the task."""
        found = DepthPrediction.require(prediction, self.target)
        assert isinstance(self.target, SignedRegion)
        inside = self.target.region.on_grid(found.frame, found.values.shape)
        off = self.target.sign * (found.values - self.truth)[inside]
        share = float(np.nanmean(off) / np.nanmean(self.truth[inside]))
        return Judgement(float(np.nanmean(off)), abs(share) <= found.tolerance)


def read_values(file: Path, scale: float) -> Values:
    """Return the true values of a file, (H, W); raises `InputError`."""
    try:
        raw = np.load(file) if file.suffix == ".npy" else np.asarray(Image.open(file))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} can't be read: {error}.", "Give a .npy, .png or .tif.") from error
    return np.asarray(raw, dtype=np.float64) * scale
