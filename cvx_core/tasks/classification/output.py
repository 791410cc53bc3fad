"""Parser of classifier outputs."""

from __future__ import annotations

from typing import Any

import torch

from cvx_core.tasks.outputs import Classes, read_scores


def classification(output: Any, classes: Classes = None) -> torch.Tensor:
    """Return the logits (B, C) of a classifier's output; see `read_scores`.

    Raises
    ------
    ModelError
        If there are none, or several tensors could be meant.
    """
    return read_scores(output, 2, classes)
