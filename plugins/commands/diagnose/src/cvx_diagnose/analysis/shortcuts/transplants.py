"""A part of one image put into others: does it bring its wrong answer along?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import binomtest
from torch import Tensor

from cvx_core.images import components

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the network's input."""

Answers = Callable[[Sequence[Tensor]], list[int]]
"""From inputs (C, H, W), of any sizes, to the class of each."""

_LARGEST = 0.5
"""Share of the image beyond which evidence is in no one place."""


@dataclass(frozen=True, eq=False)
class Donor:
    """An image whose part is put into others.

    Attributes
    ----------
    values
        (C, H, W), the network's input.
    box, elsewhere
        The part that its map blames, and one as large of which it says least.
    """

    values: Tensor
    box: Box
    elsewhere: Box

    @classmethod
    def of(cls, values: Tensor, evidence: npt.NDArray[Any]) -> Donor | None:
        """Return the donor with a map (h, w), or None where its evidence is in no one place."""
        parts = parts_of(evidence)
        return None if parts is None else cls(values, *parts)


def parts_of(evidence: npt.NDArray[Any]) -> tuple[Box, Box] | None:
    """Return where most of a map's positive evidence is, and a part as large with least of it.

    Parameters
    ----------
    evidence
        (h, w), signed.

    Returns
    -------
    pair of boxes or None
        The first holds the cells around the peak that reach half of it. None where there is
        nothing positive, or these take more than half of the image.
    """
    positive = np.nan_to_num(np.clip(evidence, 0, None)).astype(np.float64)
    height, width = positive.shape
    if positive.max() <= 0:
        return None
    strong = positive >= 0.5 * positive.max()
    pieces = components(np.where(strong, 0, -1))
    rows, columns = np.nonzero(pieces == pieces.flat[int(positive.argmax())])
    top, left = int(rows.min()), int(columns.min())
    high, wide = int(rows.max()) + 1 - top, int(columns.max()) + 1 - left
    if high * wide > _LARGEST * height * width:
        return None
    sums = sliding_window_view(positive, (high, wide)).sum((2, 3))
    quiet_top, quiet_left = np.unravel_index(int(sums.argmin()), sums.shape)

    def box(top: int, left: int) -> Box:
        return left / width, top / height, (left + wide) / width, (top + high) / height

    return box(top, left), box(int(quiet_top), int(quiet_left))


def pasted(into: Tensor, values: Tensor, box: Box) -> Tensor:
    """Return an image (C, H, W) with a part of another (C, h, w) in the same place."""
    taken = values[(slice(None), *_slices(box, values))]
    place = (slice(None), *_slices(box, into))
    result = into.clone()
    shape = result[place].shape[1:]
    if taken.shape[1:] != shape:
        taken = F.interpolate(taken[None].float(), shape, mode="bilinear")[0].to(into)
    result[place] = taken
    return result


def _slices(box: Box, values: Tensor) -> tuple[slice, slice]:
    height, width = values.shape[-2:]
    left, top, right, bottom = box
    return (
        slice(round(top * height), max(round(bottom * height), round(top * height) + 1)),
        slice(round(left * width), max(round(right * width), round(left * width) + 1)),
    )


def turned(
    donors: Sequence[Donor],
    images: Sequence[Sequence[Tensor]],
    true: Sequence[Sequence[int]],
    wanted: set[int],
    answers: Answers,
) -> dict[str, Any]:
    """Return how often a part of an error makes right images wrong in the same way.

    Parameters
    ----------
    donors
        Errors.
    images, true
        For each donor some images (C, H, W) that are answered rightly, and their classes.
    wanted
        The errors' wrong answers.
    answers
        The network.

    Returns
    -------
    dict
        ``tried`` pastings; ``turned``, how many gave a wrong answer in `wanted`; ``elsewhere``, the
        same for parts as large from elsewhere in the same errors; ``donors``; ``p``, the chance of
        so many donors whose blamed part turned more than the other, were both alike: the sign
        test. Donors are counted and not images, because images with one donor aren't independent.
    """
    counts = np.zeros((len(donors), 2), dtype=np.int64)
    tried = 0
    for k, donor in enumerate(donors):
        for column, box in enumerate((donor.box, donor.elsewhere)):
            said = answers([pasted(image, donor.values, box) for image in images[k]])
            pairs = zip(said, true[k], strict=True)
            counts[k, column] = sum(q != y and q in wanted for q, y in pairs)
        tried += len(images[k])
    ahead = int((counts[:, 0] > counts[:, 1]).sum())
    behind = int((counts[:, 0] < counts[:, 1]).sum())
    odds = binomtest(ahead, ahead + behind, alternative="greater").pvalue if ahead + behind else 1.0
    return {
        "tried": tried,
        "turned": int(counts[:, 0].sum()),
        "elsewhere": int(counts[:, 1].sum()),
        "donors": len(donors),
        "p": float(odds),
    }
