"""From decoded images to rows: predict all of them, and explain those that are wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from cvx_core import CvxError, Frame, TargetError, VisionModel
from cvx_core.explainers import images_at_once, in_pieces
from cvx_core.plugins import describe_error
from cvx_diagnose.data.decoder import Decoded, Sides
from cvx_diagnose.run.inference.error_maps import Wrong, error_maps
from cvx_diagnose.run.inference.model_probe import answers_and_features
from cvx_diagnose.run.inference.prediction_rows import judged
from cvx_diagnose.run.plan import Plan
from cvx_diagnose.run.rows import BAD, FAILED, OK, Row, failed

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


class Explaining:
    """Makes rows of decoded images.

    Parameters
    ----------
    model
        The network.
    plan
        What is asked.
    """

    def __init__(self, model: VisionModel, plan: Plan) -> None:
        self.model, self.plan = model, plan

    def __call__(self, batch: Sequence[Decoded]) -> list[Row]:
        """Return a row for each image, in order.

        Where memory runs out the batch is halved, and what doesn't run alone either is a model
        failure, as is an image on which the model raises or answers with numbers that are not
        finite.
        """
        rows: list[Row] = []
        for _, group in groupby(batch, key=lambda one: one.values.shape):
            rows += self._rows(list(group))
        return rows

    def _rows(self, several: list[Decoded]) -> list[Row]:
        try:
            at_once = 1
            if len(several) > 1:
                at_once = images_at_once(self.model, self._tensor(several[0]), None)
            done = in_pieces(
                len(several), at_once, lambda start, stop: self._together(several[start:stop])
            )
            return [row for rows in done for row in rows]
        except (CvxError, *OUT_OF_MEMORY) as error:
            if len(several) > 1:
                return [row for one in several for row in self._rows([one])]
            return [self._failed(several[0], error)]

    def _failed(self, one: Decoded, error: BaseException) -> Row:
        if isinstance(error, OUT_OF_MEMORY):
            message = "The memory does not suffice for this image alone. Use smaller images."
        else:
            message = str(error) if isinstance(error, CvxError) else describe_error(error)
        # A label that the model doesn't know is no fault of the model.
        status = BAD if isinstance(error, TargetError) else FAILED
        return failed(one.item, status, message, **_known(one), seconds=one.seconds)

    def _together(self, several: list[Decoded]) -> list[Row]:
        started = time.perf_counter()
        inputs = torch.stack([self._tensor(one) for one in several])
        reading, features = answers_and_features(self.model, inputs)
        height, width = inputs.shape[2:]
        # A classifier's answer, which is about all that it sees, can do without a place.
        extents = [one.extent or (0.0, 0.0, float(width), float(height)) for one in several]
        frames = [
            Frame(extent, (width, height), one.size)
            for one, extent in zip(several, extents, strict=True)
        ]
        numbers = features.float().cpu().numpy()
        rows: list[Row] = []
        wrong: list[tuple[Row, Wrong]] = []
        for i, answer in enumerate(self.model.predictions(reading, frames)):
            one = several[i]
            try:
                found, cases = judged(answer, one.truth)
            except TargetError as error:
                rows.append(self._failed(one, error))
                continue
            row = {"id": one.item.id, "path": one.item.shown, "status": OK, "message": ""}
            row |= {**_known(one), **found, "features": numbers[i]}
            rows.append(row)
            if cases:
                assert one.truth is not None
                extent = self._located(one)
                row |= {"tested": False, "thumbnail": one.thumbnail, "extent": extent}
                extent = extent or extents[i]
                wrong.append((row, Wrong(inputs[i], cases[0], one.truth, extent, one.size)))
        if wrong and self.plan.map_shape is not None:
            self._add_maps(wrong)
        seconds = (time.perf_counter() - started) / len(several)
        for row, one in zip(rows, several, strict=True):
            row["seconds"] = one.seconds + seconds
        return rows

    def _add_maps(self, wrong: list[tuple[Row, Wrong]]) -> None:
        maps = error_maps(self.model, self.plan, [one for _, one in wrong])
        for (row, _), found in zip(wrong, maps, strict=True):
            row |= found

    def _tensor(self, one: Decoded) -> torch.Tensor:
        return torch.from_numpy(one.values).to(self.model.device, self.model.dtype)

    def _located(self, one: Decoded) -> Sides | None:
        """Return what part of the photograph the network sees, if it is a rectangle."""
        if one.extent is None and one.size is not None:
            return self.model.preparer.geometry(one.size).extent
        return one.extent


def _known(one: Decoded) -> dict[str, Any]:
    """Return what a row says of the photograph itself."""
    width, height = one.size or (None, None)
    return {"sha256": one.sha256, "width": width, "height": height, "extent": one.extent}
