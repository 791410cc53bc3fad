"""Find the class scores in whatever a model returns.

A readout takes what the module returned and gives the scores with their graph: a tensor (B, C) of
a classifier, a tensor (B, C, h, w) of a segmenter, or the `Candidates` of a detector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from cvx_core.errors import ModelError
from cvx_core.reading import Candidates

Readout = Callable[[Any], torch.Tensor | Candidates]
"""Takes what the model returned and gives its scores, with their graph."""

_NAMES = ("logits", "out", "scores", "prediction")
_QUERIES = (("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks"))
_LEAST = 1e-12
"""Added to a pixel's score before its logarithm, which is then never below -28."""


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
        pair = _named(output, classes), _named(output, masks)
        if all(isinstance(one, torch.Tensor) for one in pair):
            return _of_queries(*pair)
    found = _find(output)
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


def detection(output: Any) -> Candidates:
    """Return the candidates in a detector's output, before overlapping boxes are suppressed.

    Reads `Candidates`, or an object or mapping with ``logits`` (B, M, C + 1) and ``pred_boxes``
    (B, M, 4), which are centre, width and height as fractions of the input, the last class
    meaning nothing (DETR, Carion 2020). Where there is no such class and each has its sigmoid
    (Deformable DETR, Zhu 2021), a readout of your own says so; models loaded as ``transformers:``
    have it.

    Raises
    ------
    ModelError
        If it is neither.
    """
    if isinstance(output, Candidates):
        return output
    logits, boxes = _named(output, "logits"), _named(output, "pred_boxes")
    if not isinstance(logits, torch.Tensor) or not isinstance(boxes, torch.Tensor):
        raise ModelError(
            f"No candidates were found in the {type(output).__name__} that the detector returned.",
            "Pass readout=... to VisionModel: a function from that output to cvx_core.Candidates"
            "(logits, boxes), before boxes are suppressed. torchvision's detectors are "
            "loaded with it by name, as in torchvision:fcos_resnet50_fpn.",
        )
    centre, size = boxes[..., :2], boxes[..., 2:]
    return Candidates(
        logits,
        torch.cat([centre - size / 2, centre + size / 2], dim=-1),
        exclusive=True,
        background=logits.shape[-1] - 1,
        single=True,
        overlap=None,
        relative=True,
    )


def _named(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


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
