"""Correct predictions of a finished run, processed again for comparison with its errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cvx_core import CvxError, InputError, VisionModel
from cvx_core.explainers import images_at_once, in_pieces
from cvx_diagnose.run.inference.error_maps import WrongImage, error_maps
from cvx_diagnose.run.plan import Plan
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import OK
from cvx_diagnose.run.work import DiagnosisWork

Numbers = npt.NDArray[Any]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageEvidence:
    """An image and its map.

    Attributes
    ----------
    values
        (C, H, W), the network's input.
    evidence
        (h, w), signed contributions to the prediction.
    features
        (F,), features under the map, of the column that error groups are made of.
    """

    values: Tensor
    evidence: Numbers
    features: Numbers


@dataclass(eq=False)
class RunInputs:
    """The inputs of a classifier's run, by position.

    Parameters
    ----------
    run, work
        A finished run, and its work, which has the network and the data.

    Attributes
    ----------
    ids, true, predicted
        (n,), of each input; -1 where there is no class.
    """

    run: Run
    work: DiagnosisWork
    ids: Whole = field(init=False)
    true: Whole = field(init=False)
    predicted: Whole = field(init=False)

    def __post_init__(self) -> None:
        table = self.run.table(["id", "label", "predicted", "status"])
        ok = np.array(table["status"].to_pylist(), dtype=object) == OK
        self.ids = table["id"].to_numpy().astype(np.int64)
        self.true, self.predicted = (
            np.where(ok, table[name].fill_null(-1).to_numpy(), -1).astype(np.int64)
            for name in ("label", "predicted")
        )

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Mask of the correctly predicted inputs."""
        found: npt.NDArray[np.bool_] = (self.true >= 0) & (self.true == self.predicted)
        return found

    def values(self, position: int) -> Tensor | None:
        """Return the network's input (C, H, W), or None if it can't be read any more."""
        size = self.run.plan.block_size
        item = self.work.items(position // size)[position % size]
        try:
            decoded = self.work.decode(item)
        except InputError:
            return None
        model = self.work.model
        return torch.from_numpy(decoded.values).to(model.device, model.dtype)

    def several(self, positions: Sequence[int]) -> dict[int, Tensor]:
        """Return the network's inputs of those that can be read."""
        read = {position: self.values(position) for position in positions}
        return {position: values for position, values in read.items() if values is not None}

    def predict(self, inputs: Sequence[Tensor]) -> list[int]:
        """Return the predicted class of each of the inputs (C, H, W)."""
        return [int(row.argmax()) for row in self._logits(inputs)]

    def evidence(
        self, positions: Sequence[int], rivals: Sequence[int], column: str
    ) -> dict[int, ImageEvidence]:
        """Return the evidence for the predictions of correctly predicted inputs.

        The map is of the margin over a rival class, as that of an error is over the true class.

        Parameters
        ----------
        rivals
            Classes; for each input the one of largest logit counts that is not its own. Inputs
            without any are left out.
        column
            Features under the map: ``fine_features`` or ``error_features``.
        """
        wanted = [k for k in positions if any(one != self.true[k] for one in rivals)]
        known = list(self.several(wanted).items())
        logits = self._logits([values for _, values in known])
        others = []
        for (position, _), row in zip(known, logits, strict=True):
            classes = [one for one in rivals if one != self.true[position]]
            others.append(max(classes, key=lambda one: float(row[one])))
        found: dict[int, ImageEvidence] = {}
        for part in _by_shape([values for _, values in known]):
            wrong = [
                WrongImage(known[k][1], None, others[k], (0.0, 0.0, 1.0, 1.0), None) for k in part
            ]
            maps = self._in_pieces(
                wrong[0].values,
                len(wrong),
                partial(_maps, self.work.model, self.run.plan, wrong),
            )
            for k, one in zip(part, maps, strict=True):
                position, values = known[k]
                found[position] = ImageEvidence(values, one["margin_map"], one[column])
        return found

    def _logits(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        found: dict[int, Tensor] = {}
        for part in _by_shape(inputs):
            several = torch.stack([inputs[k] for k in part])
            rows = self._in_pieces(
                several[0], len(several), partial(_rows, self.work.model, several)
            )
            found |= dict(zip(part, rows, strict=True))
        return [found[k] for k in range(len(inputs))]

    def _in_pieces(self, image: Tensor, count: int, run: Any) -> list[Any]:
        together = min(self.run.plan.batch_size, images_at_once(self.work.model, image, None))
        try:
            return [one for piece in in_pieces(count, together, run) for one in piece]
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise CvxError("Out of memory for a single image.", "Use smaller images.") from (error)


def _maps(
    model: VisionModel, plan: Plan, wrong: Sequence[WrongImage], start: int, stop: int
) -> list[dict[str, Any]]:
    return error_maps(model, plan, wrong[start:stop])


def _rows(model: VisionModel, several: Tensor, start: int, stop: int) -> list[Tensor]:
    return list(model.logits(several[start:stop]).float().cpu())


def _by_shape(inputs: Sequence[Tensor]) -> list[list[int]]:
    positions: dict[torch.Size, list[int]] = {}
    for k, one in enumerate(inputs):
        positions.setdefault(one.shape, []).append(k)
    return list(positions.values())


__all__ = ["ImageEvidence", "RunInputs", "Whole"]
