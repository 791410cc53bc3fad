"""Builder of rows: predicts decoded inputs, and explains the wrong ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from cvx_core import CvxError, Frame, ModelError, TargetError, VisionModel
from cvx_core.explainers import ImageTargets, images_at_once, in_pieces
from cvx_core.plugins import describe_error, error_boundary
from cvx_diagnose.run.inference.decoder import Bounds, DecodedInput
from cvx_diagnose.run.inference.error_maps import error_maps, error_targets
from cvx_diagnose.run.inference.model_probe import predict_with_features
from cvx_diagnose.run.inference.prediction_rows import prediction_row
from cvx_diagnose.run.plan import Plan
from cvx_diagnose.run.rows import BAD, FAILED, NO_MAP, OK, Row, failed

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)

_Wrong = tuple[Row, torch.Tensor, ImageTargets]
"""The row of an error, the network's input (C, H, W), and the targets of its maps."""


class RowBuilder:
    """Builds rows from decoded inputs.

    Parameters
    ----------
    model
        The network.
    plan
        The configuration.
    """

    def __init__(self, model: VisionModel, plan: Plan) -> None:
        self.model, self.plan = model, plan

    def __call__(self, batch: Sequence[DecodedInput]) -> list[Row]:
        """Return a row for each input, in order.

        Where memory runs out the batch is halved. An input that doesn't fit alone either is a model
        failure, as is one on which the model raises or returns values that are not finite.
        """
        rows: list[Row] = []
        for _, group in groupby(batch, key=lambda one: one.values.shape):
            rows += self._rows(list(group))
        return rows

    def _rows(self, inputs: list[DecodedInput]) -> list[Row]:
        try:
            at_once = 1
            if len(inputs) > 1:
                at_once = images_at_once(self.model, self._tensor(inputs[0]), None)
            done = in_pieces(
                len(inputs), at_once, lambda start, stop: self._batch(inputs[start:stop])
            )
            return [row for rows in done for row in rows]
        except (CvxError, *OUT_OF_MEMORY) as error:
            if len(inputs) > 1:
                return [row for one in inputs for row in self._rows([one])]
            return [self._failed(inputs[0], error)]

    def _failed(self, one: DecodedInput, error: BaseException) -> Row:
        if isinstance(error, OUT_OF_MEMORY):
            message = "Out of memory for this image alone. Use smaller images."
        else:
            message = str(error) if isinstance(error, CvxError) else describe_error(error)
        # A label that the model doesn't know is not a failure of the model.
        status = BAD if isinstance(error, TargetError) else FAILED
        return failed(one.item, status, message, **_image_columns(one), seconds=one.seconds)

    def _batch(self, inputs: list[DecodedInput]) -> list[Row]:
        started = time.perf_counter()
        tensors = torch.stack([self._tensor(one) for one in inputs])
        output, features = predict_with_features(self.model, tensors)
        height, width = tensors.shape[2:]
        # A classifier's prediction is about the whole image and needs no extent.
        extents = [one.extent or (0.0, 0.0, float(width), float(height)) for one in inputs]
        frames = [
            Frame(extent, (width, height), one.size)
            for one, extent in zip(inputs, extents, strict=True)
        ]
        numbers = features.float().cpu().numpy()
        rows: list[Row] = []
        wrong: list[_Wrong] = []
        for i, prediction in enumerate(self.model.predictions(output, frames)):
            one = inputs[i]
            try:
                columns, mistakes = prediction_row(prediction, one.ground_truth)
            except TargetError as error:
                rows.append(self._failed(one, error))
                continue
            row = {"id": one.item.id, "path": one.item.display_path, "status": OK, "message": ""}
            row |= {**_image_columns(one), **columns, "features": numbers[i]}
            rows.append(row)
            if mistakes:
                assert one.ground_truth is not None
                extent = self._extent(one)
                row |= {"tested": False, "thumbnail": one.thumbnail, "extent": extent}
                frame = Frame(extent or extents[i], (width, height), one.size)
                targets = error_targets(self.plan, mistakes[0])
                wrong.append((row, tensors[i], ImageTargets(targets, one.ground_truth, frame)))
        if wrong and self.plan.map_shape is not None:
            self._add_maps(wrong)
        seconds = (time.perf_counter() - started) / len(inputs)
        for row, one in zip(rows, inputs, strict=True):
            row["seconds"] = one.seconds + seconds
        return rows

    def _add_maps(self, wrong: Sequence[_Wrong]) -> None:
        """Add maps to the rows of errors; where none can be made, say why and keep the rest."""
        errors, several, images = zip(*wrong, strict=True)
        try:
            with error_boundary(ModelError, (CvxError, *OUT_OF_MEMORY)):
                maps = error_maps(self.model, self.plan, torch.stack(several), images)
        except (CvxError, *OUT_OF_MEMORY) as error:
            if len(wrong) > 1:
                for one in wrong:
                    self._add_maps([one])
                return
            [row] = errors
            said = error.message if isinstance(error, CvxError) else "out of memory."
            row["message"] = f"{NO_MAP}{said}"
            return
        for row, columns in zip(errors, maps, strict=True):
            row |= columns

    def _tensor(self, one: DecodedInput) -> torch.Tensor:
        return torch.from_numpy(one.values).to(self.model.device, self.model.dtype)

    def _extent(self, one: DecodedInput) -> Bounds | None:
        """Return the part of the image that the network sees, if it is a rectangle."""
        if one.extent is None and one.size is not None:
            return self.model.preparer.geometry(one.size).extent
        return one.extent


def _image_columns(one: DecodedInput) -> dict[str, Any]:
    """Return the columns about the image itself."""
    width, height = one.size or (None, None)
    columns = {"sha256": one.sha256, "width": width, "height": height, "extent": one.extent}
    return columns | {"statistics": one.statistics, "tiny": one.tiny}
