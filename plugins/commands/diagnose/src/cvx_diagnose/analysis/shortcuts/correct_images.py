"""Correct predictions of a finished run, processed again for comparison with its errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cvx_core import CvxError, Frame, InputError
from cvx_core.explainers import ImageTargets, images_at_once, in_pieces
from cvx_diagnose.run.inference.error_maps import error_maps, error_targets
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import OK
from cvx_diagnose.run.work import DiagnosisWork

Numbers = npt.NDArray[Any]
Whole = npt.NDArray[np.int64]
Batch = Callable[[Tensor, Sequence[int]], list[Any]]
"""From inputs (B, C, H, W) of one shape, and their indices, to a result for each."""

_KEPT = 2**27
"""Maximum number of bytes of inputs that are kept for the next group."""


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

    def __init__(self, run: Run, work: DiagnosisWork) -> None:
        self.run, self.work = run, work
        self._decoded: dict[int, Tensor] = {}
        self._kept = 0
        table = run.table(["id", "label", "predicted", "status"])
        ok = np.array(table["status"].to_pylist(), dtype=object) == OK
        self.ids: Whole = table["id"].to_numpy().astype(np.int64)
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
        if position not in self._decoded:
            try:
                item = self.work.manifest.find(int(self.ids[position]))
                values = torch.from_numpy(self.work.decode(item).values)
            except InputError:
                return None
            # Groups with the same prediction share their correct images.
            self._kept += values.nbytes
            if self._kept > _KEPT:
                self._decoded, self._kept = {}, values.nbytes
            self._decoded[position] = values
        model = self.work.model
        return self._decoded[position].to(model.device, model.dtype)

    def several(self, positions: Sequence[int]) -> dict[int, Tensor]:
        """Return the network's inputs of those that can be read."""
        read = {position: self.values(position) for position in positions}
        return {position: values for position, values in read.items() if values is not None}

    def predict(self, inputs: Sequence[Tensor]) -> list[int]:
        """Return the predicted class of each of the inputs (C, H, W)."""
        return [int(row.argmax()) for row in self._logits(inputs)]

    def evidence(
        self, positions: Sequence[int], rivals: Sequence[int]
    ) -> dict[int, dict[str, Any]]:
        """Return the evidence for the predictions of correctly predicted inputs.

        For each the network's input, as ``values``, and the columns of `error_maps`.

        The map is of the margin over a rival class, as that of an error is over the true class.

        Parameters
        ----------
        rivals
            Classes; for each input the one of largest logit counts that is not its own. Inputs
            without any are left out.
        """
        wanted = [k for k in positions if any(one != self.true[k] for one in rivals)]
        known = self.several(wanted)
        images = []
        for position, row in zip(known, self._logits([*known.values()]), strict=True):
            classes = [one for one in rivals if one != self.true[position]]
            rival = max(classes, key=lambda one: float(row[one]))
            height, width = known[position].shape[1:]
            frame = Frame((0.0, 0.0, 1.0, 1.0), (width, height), None)
            images.append(ImageTargets(error_targets(self.run.plan, None), rival, frame))

        def maps(inputs: Tensor, at: Sequence[int]) -> list[dict[str, Any]]:
            return error_maps(self.work.model, self.run.plan, inputs, [images[k] for k in at])

        found = self._run_batches([*known.values()], maps)
        return {
            position: {"values": known[position], **one}
            for position, one in zip(known, found, strict=True)
        }

    def _logits(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return self._run_batches(
            inputs, lambda several, _: list(self.work.model.logits(several).float().cpu())
        )

    def _run_batches(self, inputs: Sequence[Tensor], run: Batch) -> list[Any]:
        """Return the results for inputs of any shapes, in order."""
        found: dict[int, Any] = {}
        for shape in dict.fromkeys(one.shape for one in inputs):
            at = [k for k, one in enumerate(inputs) if one.shape == shape]
            found |= zip(at, self._in_pieces(inputs, at, run), strict=True)
        return [found[k] for k in range(len(inputs))]

    def _in_pieces(self, inputs: Sequence[Tensor], at: Sequence[int], run: Batch) -> list[Any]:
        def piece(start: int, stop: int) -> list[Any]:
            part = at[start:stop]
            return run(torch.stack([inputs[k] for k in part]), part)

        most = images_at_once(self.work.model, inputs[at[0]], None)
        try:
            pieces = in_pieces(len(at), min(self.run.plan.batch_size, most), piece)
            return [one for several in pieces for one in several]
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise CvxError("Out of memory for a single image.", "Use smaller images.") from (error)
