"""Parser of detector outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from cvx_core.errors import ModelError
from cvx_core.tasks.detection.candidates import DetectionCandidates
from cvx_core.tasks.outputs import Classes, class_count, find_named

_NOTHING = re.compile(r"(__)?(no|none|nothing|background|void|n/a)\b", re.IGNORECASE)
"""Names of a class that means nothing is there."""


def detection(output: Any, classes: Classes = None) -> DetectionCandidates:
    """Return the candidates in a detector's output, before overlapping boxes are suppressed.

    Reads `DetectionCandidates`, or an object or mapping with ``logits`` (B, M, C) and
    ``pred_boxes`` (B, M, 4), which are centre, width and height as fractions of the input. With as
    many columns as the model has classes each is a sigmoid of its own (Deformable DETR, Zhu 2021),
    and the best M pairs of candidate and class are reported. With one more, or where the last class
    is called ``nothing``, ``background`` or the like, the last means nothing and the scores are a
    softmax (DETR, Carion 2020).

    Parameters
    ----------
    output
        What the model returned.
    classes
        Names of the model's classes, or their number, as its ``config.num_labels``.

    Raises
    ------
    ModelError
        If it is neither, or the number of classes is not known or fits neither.
    """
    if isinstance(output, DetectionCandidates):
        return output
    logits, boxes = find_named(output, "logits"), find_named(output, "pred_boxes")
    if not isinstance(logits, torch.Tensor) or not isinstance(boxes, torch.Tensor):
        raise ModelError(
            f"No candidates were found in the {type(output).__name__} that the detector returned.",
            "cvx_core.wrap(module) reads a detector of a library that cvx loads models of. For "
            "others pass readout=... to VisionModel: a function from that output to "
            "cvx_core.DetectionCandidates(logits, boxes), before boxes are suppressed.",
        )
    count, columns = class_count(classes), logits.shape[-1]
    if count is not None and isinstance(classes, Sequence) and _NOTHING.match(classes[-1].strip()):
        count -= 1
    if count is None or columns not in (count, count + 1):
        known = "unknown" if count is None else str(count)
        raise ModelError(
            f"The detector returned logits {tuple(logits.shape)}, and its number of classes is "
            f"{known}: the last column may be a class or mean nothing.",
            f"Pass classes=[...] with {columns} names if each class has its sigmoid, with "
            f"{columns - 1} if the last column means nothing.",
        )
    centre, size = boxes[..., :2], boxes[..., 2:]
    background = columns > count
    return DetectionCandidates(
        logits,
        torch.cat([centre - size / 2, centre + size / 2], dim=-1),
        exclusive=background,
        background=count if background else None,
        single=background,
        overlap=None,
        relative=True,
        most=logits.shape[1],
    )
