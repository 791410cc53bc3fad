"""Find the class scores in whatever a model returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from cvx_core.errors import ModelError

Readout = Callable[[Any], torch.Tensor]
"""Takes what the model returned and gives the logits (B, C), with their graph."""

_NAMES = ("logits", "out", "scores", "prediction")


def classification(output: Any) -> torch.Tensor:
    """Return the logits (B, C) of a classifier's output.

    Reads a tensor, an object or mapping with ``logits`` (or ``out``, ``scores``, ``prediction``),
    or the first tensor of a tuple (Inception's auxiliary head comes second).

    Raises
    ------
    ModelError
        If there is none, or its shape is not (B, C).
    """
    found = _find(output)
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


def _find(output: Any) -> torch.Tensor | None:
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        named = [output[name] for name in _NAMES if name in output]
        return _first_tensor(named or list(output.values()))
    for name in _NAMES:
        if isinstance(getattr(output, name, None), torch.Tensor):
            found: torch.Tensor = getattr(output, name)
            return found
    if isinstance(output, tuple | list):
        return _first_tensor(output)
    return None


def _first_tensor(items: Any) -> torch.Tensor | None:
    return next((item for item in items if isinstance(item, torch.Tensor)), None)
