"""Transplants: regions of errors pasted into other images, to see if the prediction follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import binomtest
from torch import Tensor

from cvx_core.images import components
from cvx_diagnose.analysis.metrics.statistics import BOOTSTRAP_SAMPLES

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of the network's input."""

Predict = Callable[[Sequence[Tensor]], list[int]]
"""From inputs (C, H, W) of any sizes to the predicted class of each."""

_LARGEST = 0.5
"""Share of the image above which the evidence is not localized."""


Donor = tuple[Tensor, Box, Box]
"""The network's input (C, H, W) for an error, its region of largest evidence, which is pasted, and
one of the same size with least evidence."""


def evidence_boxes(evidence: npt.NDArray[Any]) -> tuple[Box, Box] | None:
    """Return the region of a map's largest positive evidence, and one of its size with the least.

    Parameters
    ----------
    evidence
        (h, w), signed.

    Returns
    -------
    pair of boxes or None
        The first contains the positions around the peak that reach half of it. None where nothing
        is positive, or these take more than half of the image.
    """
    positive = np.nan_to_num(np.clip(evidence, 0, None)).astype(np.float64)
    height, width = positive.shape
    if positive.max() <= 0:
        return None
    strong = positive >= 0.5 * positive.max()
    labels = components(np.where(strong, 0, -1))
    rows, columns = np.nonzero(labels == labels.flat[int(positive.argmax())])
    top, left = int(rows.min()), int(columns.min())
    high, wide = int(rows.max()) + 1 - top, int(columns.max()) + 1 - left
    if high * wide > _LARGEST * height * width:
        return None
    sums = sliding_window_view(positive, (high, wide)).sum((2, 3))
    quiet_top, quiet_left = np.unravel_index(int(sums.argmin()), sums.shape)

    def box(top: int, left: int) -> Box:
        return left / width, top / height, (left + wide) / width, (top + high) / height

    return box(top, left), box(int(quiet_top), int(quiet_left))


def paste(into: Tensor, values: Tensor, box: Box) -> Tensor:
    """Return an image (C, H, W) with a region of another (C, h, w) pasted at the same location."""
    taken = values[(slice(None), *_slices(box, values))]
    target = (slice(None), *_slices(box, into))
    result = into.clone()
    shape = result[target].shape[1:]
    if taken.shape[1:] != shape:
        taken = F.interpolate(taken[None].float(), shape, mode="bilinear")[0].to(into)
    result[target] = taken
    return result


def _slices(box: Box, values: Tensor) -> tuple[slice, slice]:
    height, width = values.shape[-2:]
    left, top, right, bottom = box
    return (
        slice(round(top * height), max(round(bottom * height), round(top * height) + 1)),
        slice(round(left * width), max(round(right * width), round(left * width) + 1)),
    )


def count_flips(
    donors: Sequence[Donor],
    images: Sequence[Sequence[tuple[Tensor, int]]],
    wanted: set[int],
    predict: Predict,
) -> dict[str, Any]:
    """Count how often a region of an error makes correct images wrong in the same way.

    Parameters
    ----------
    donors
        Errors.
    images
        For each donor some correctly predicted images (C, H, W), each with its class.
    wanted
        The errors' wrong predictions.
    predict
        The network.

    Returns
    -------
    dict
        ``count`` of transplants; ``flipped``, how many gave a wrong prediction in `wanted`;
        ``control_flipped``, the same for the control regions of the same errors; ``donors``; and
        ``p`` of the one-sided sign test over donors whose region flipped more images than its
        control; ``effect`` and ``control_effect``, the shares that were flipped; and ``low`` and
        ``high``, the 95 % interval of their difference. Donors are counted and drawn (bootstrap),
        and not images, since images with one donor are dependent.
    """
    counts = np.zeros((len(donors), 2), dtype=np.int64)
    for k, (values, *boxes) in enumerate(donors):
        for column, box in enumerate(boxes):
            predicted = predict([paste(image, values, box) for image, _ in images[k]])
            pairs = zip(predicted, images[k], strict=True)
            counts[k, column] = sum(q != y and q in wanted for q, (_, y) in pairs)
    ahead = int((counts[:, 0] > counts[:, 1]).sum())
    behind = int((counts[:, 0] < counts[:, 1]).sum())
    p_value = (
        binomtest(ahead, ahead + behind, alternative="greater").pvalue if ahead + behind else 1.0
    )
    sizes = np.array([len(several) for several in images])
    total = max(1, int(sizes.sum()))
    drawn = np.random.default_rng(0).integers(0, len(donors), (BOOTSTRAP_SAMPLES, len(donors)))
    gaps = (counts[:, 0] - counts[:, 1])[drawn].sum(1) / np.maximum(sizes[drawn].sum(1), 1)
    return {
        "effect": float(counts[:, 0].sum() / total),
        "control_effect": float(counts[:, 1].sum() / total),
        "low": float(np.quantile(gaps, 0.025)),
        "high": float(np.quantile(gaps, 0.975)),
        "count": sum(map(len, images)),
        "flipped": int(counts[:, 0].sum()),
        "control_flipped": int(counts[:, 1].sum()),
        "donors": len(donors),
        "p": float(p_value),
    }
