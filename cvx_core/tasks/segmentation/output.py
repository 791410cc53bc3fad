"""Parser of segmenter outputs."""

from __future__ import annotations

from typing import Any

import torch

from cvx_core.errors import ModelError
from cvx_core.tasks.base import find_named, find_scores

_QUERIES = (("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks"))


_LEAST = 1e-12
"""Added to a pixel's score before its logarithm, which is then never below -28."""


def segmentation(output: Any) -> torch.Tensor:
    """Return the logits (B, C, h, w) of a segmenter's output.

    Reads what `classification` reads. A single channel is the logit of the second class against
    the first: it is given as two, of which the first is zero, whose softmax is its sigmoid.

    Of a segmenter that classifies masks (Cheng 2021) it reads ``class_queries_logits``
    (B, Q, C + 1) and ``masks_queries_logits`` (B, Q, h, w), or ``logits`` and ``pred_masks``. The
    score of a class at a pixel is the sum over the queries of the class's probability times that
    of the mask there; the logits are its logarithm, so that their softmax is the class's share.

    Raises
    ------
    ModelError
        If there is none, or its shape is not (B, C, h, w).
    """
    for classes, masks in _QUERIES:
        pair = find_named(output, classes), find_named(output, masks)
        if all(isinstance(one, torch.Tensor) for one in pair):
            return _of_queries(*pair)
    found = find_scores(output)
    if found is None or found.ndim != 4:
        shape = "no tensor" if found is None else f"the shape {tuple(found.shape)}"
        raise ModelError(
            f"A segmenter's scores are (B, C, h, w), and {shape} was found in the "
            f"{type(output).__name__} that the model returned.",
            "Pass readout=... to VisionModel: a function from that output to (B, C, h, w).",
        )
    return torch.cat([torch.zeros_like(found), found], dim=1) if found.shape[1] == 1 else found


def _of_queries(classes: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    named = classes.softmax(-1)[..., :-1]
    return (torch.einsum("bqc,bqhw->bchw", named, masks.sigmoid()) + _LEAST).log()
