"""Parser of classifier outputs."""

from __future__ import annotations

from typing import Any

import torch

from cvx_core.errors import ModelError
from cvx_core.tasks.base import find_scores


def classification(output: Any) -> torch.Tensor:
    """Return the logits (B, C) of a classifier's output.

    Reads a tensor, an object or mapping with ``logits`` (or ``out``, ``scores``, ``prediction``),
    or the first tensor of a tuple (Inception's auxiliary head comes second).

    Raises
    ------
    ModelError
        If there is none, or its shape is not (B, C).
    """
    found = find_scores(output)
    if found is None:
        raise ModelError(
            f"The model returned a {type(output).__name__}, in which no class scores were found.",
            "Pass readout=... to VisionModel: a function from that output to logits (B, C).",
        )
    while found.ndim > 2 and found.shape[-1] == 1:
        found = found.squeeze(-1)
    if found.ndim != 2:
        raise ModelError(
            f"The model returned scores of shape {tuple(found.shape)}; a classifier's are (B, C).",
            "Pass readout=... to VisionModel: a function from that output to logits (B, C).",
        )
    return found
