"""Parser of segmenter outputs."""

from __future__ import annotations

from typing import Any

import torch

from cvx_core.errors import ModelError, install_command
from cvx_core.tasks.outputs import Classes, class_count, find_named, read_scores

_QUERIES = (("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks"))


_LEAST = 1e-12
"""Added to a pixel's score before its logarithm, which is then never below -28."""


def segmentation(output: Any, classes: Classes = None) -> torch.Tensor:
    """Return the logits (B, C, h, w) of a segmenter's output.

    Reads what `read_scores` reads. A single channel of a model with two class names is the logit
    of the second class against the first: it is given as two, -z/2 and z/2, whose softmax is its
    sigmoid, so that each class has a map.

    Of a segmenter that classifies masks (Cheng 2021) it reads ``class_queries_logits``
    (B, Q, C + 1) and ``masks_queries_logits`` (B, Q, h, w), or ``logits`` and ``pred_masks``. The
    score of a class at a pixel is the sum over the queries of the class's probability times that
    of the mask there; the logits are its logarithm, so that their softmax is the class's share.

    Raises
    ------
    ModelError
        If there is none, several tensors could be meant, or a single channel could be a value.
    """
    for queries, masks in _QUERIES:
        pair = find_named(output, queries), find_named(output, masks)
        if all(isinstance(one, torch.Tensor) for one in pair):
            return _of_queries(*pair)
    found = read_scores(output, 4, classes)
    if found.shape[1] > 1:
        return found
    if class_count(classes) != 2:
        raise ModelError(
            f"The model returned one channel, {tuple(found.shape)}: the logit of a class, or a "
            "value such as depth.",
            "For a logit pass the names of both classes, classes=['background', 'person']; for a "
            f"value pass task='depth' ({install_command('cvx-depth')}).",
        )
    return torch.cat([-found, found], dim=1) / 2


def _of_queries(classes: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    named = classes.softmax(-1)[..., :-1]
    return (torch.einsum("bqc,bqhw->bchw", named, masks.sigmoid()) + _LEAST).log()
