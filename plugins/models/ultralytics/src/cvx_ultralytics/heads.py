"""Readouts of ultralytics' heads: candidates before suppression, and logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cvx_core import DetectionCandidates

SETTINGS: dict[str, Any] = {"threshold": 0.25, "most": 300, "clip": True}
"""Defaults of ``YOLO.predict``."""

_OVERLAP = 0.7


def yolo_candidates(output: Any, head: Any) -> DetectionCandidates:
    """Return the candidates of a YOLO head, of the branch that reports.

    Parameters
    ----------
    output
        What the network returned: predictions, and the raw outputs of the head's branches.
    head
        The head (``Detect`` or a subclass).
    """
    raw: Mapping[str, Any] = output[1]
    whole = bool(head.end2end)
    if "one2one" in raw:
        raw = raw["one2one" if whole else "one2many"]
    sizes = [tuple(grid.shape[2:]) for grid in raw["feats"]]
    forget_grid(head)
    return DetectionCandidates(
        raw["scores"].transpose(1, 2),
        _boxes(raw["boxes"], sizes, [float(one) for one in head.stride]),
        levels=tuple(h * w for h, w in sizes),
        # A head that was trained to report each object once needs no suppression.
        overlap=None if whole else _OVERLAP,
        single=not whole,
        **SETTINGS,
    )


def rtdetr_candidates(output: Any) -> DetectionCandidates:
    """Return the candidates of an RT-DETR head: those of its last decoder layer."""
    sides, logits = output[1][0][-1], output[1][1][-1]
    centre, half = sides[..., :2], sides[..., 2:] / 2
    boxes = torch.cat([centre - half, centre + half], dim=-1)
    return DetectionCandidates(logits, boxes, relative=True, overlap=None, **SETTINGS)


def class_logits(output: Any) -> Tensor:
    """Return the logits (B, C) of a classifier, which returns probabilities too."""
    logits: Tensor = output[1] if isinstance(output, tuple) else output
    return logits


def pixel_logits(output: Any) -> Tensor:
    """Return the logits (B, C, h, w) of a segmenter."""
    logits: Tensor = output[0] if isinstance(output, tuple) else output
    return logits


def _boxes(raw: Tensor, sizes: list[tuple[int, ...]], strides: list[float]) -> Tensor:
    """Return boxes (B, M, 4) from the distances (B, 4 * bins, M) of the sides to their cells."""
    points, scales = [], []
    for (h, w), stride in zip(sizes, strides, strict=True):
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        points.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        scales.append(torch.full((h * w, 1), stride))
    centre, scale = torch.cat(points).to(raw), torch.cat(scales).to(raw)
    bins = raw.reshape(len(raw), 4, -1, raw.shape[2])
    distances = _expected(bins.permute(0, 3, 1, 2)) * scale
    return torch.cat([centre - distances[..., :2], centre + distances[..., 2:]], dim=-1)


def _expected(bins: Tensor) -> Tensor:
    """Return the mean of distributions (..., n) over 0, ..., n - 1; a single bin is a distance.

    X. Li et al. 2020, arXiv:2006.04388.
    """
    if bins.shape[-1] == 1:
        return bins[..., 0]
    return (bins.softmax(-1) * torch.arange(bins.shape[-1]).to(bins)).sum(-1)


def forget_grid(head: Any) -> None:
    """Drop the grid that a head keeps from its last image, so that it is left as found."""
    for name in ("shape", "anchors", "strides"):
        head.__dict__.pop(name, None)
