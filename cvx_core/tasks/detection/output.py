"""Parser of detector outputs."""

from __future__ import annotations

from typing import Any

import torch

from cvx_core.errors import ModelError
from cvx_core.tasks.base import find_named
from cvx_core.tasks.detection.candidates import DetectionCandidates


def detection(output: Any) -> DetectionCandidates:
    """Return the candidates in a detector's output, before overlapping boxes are suppressed.

    Reads `DetectionCandidates`, or an object or mapping with ``logits`` (B, M, C + 1) and
    ``pred_boxes`` (B, M, 4), which are centre, width and height as fractions of the input, the last
    class meaning nothing (DETR, Carion 2020). Where there is no such class and each has its sigmoid
    (Deformable DETR, Zhu 2021), a readout of your own says so; models loaded as ``transformers:``
    have it.

    Raises
    ------
    ModelError
        If it is neither.
    """
    if isinstance(output, DetectionCandidates):
        return output
    logits, boxes = find_named(output, "logits"), find_named(output, "pred_boxes")
    if not isinstance(logits, torch.Tensor) or not isinstance(boxes, torch.Tensor):
        raise ModelError(
            f"No candidates were found in the {type(output).__name__} that the detector returned.",
            "Pass readout=... to VisionModel: a function from that output to "
            "cvx_core.DetectionCandidates(logits, boxes), before boxes are suppressed. "
            "Detectors loaded by name have one.",
        )
    centre, size = boxes[..., :2], boxes[..., 2:]
    return DetectionCandidates(
        logits,
        torch.cat([centre - size / 2, centre + size / 2], dim=-1),
        exclusive=True,
        background=logits.shape[-1] - 1,
        single=True,
        overlap=None,
        relative=True,
    )
