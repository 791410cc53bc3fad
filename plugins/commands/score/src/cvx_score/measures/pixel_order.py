"""Order of the network's pixels by the values of a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cvx_core import InputError, MethodError
from cvx_core.images import resample

Values = npt.NDArray[np.float64]


def read_map(values: Any, about: str = "The map") -> Values:
    """Return a map (h, w) in float64.

    Parameters
    ----------
    values
        An array or tensor (h, w), or with leading dimensions of one, as other libraries give.
    about
        Its name in messages.

    Raises
    ------
    InputError
        If it has another shape, or values that are not finite.
    MethodError
        If it is constant.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    array = np.asarray(values, dtype=np.float64)
    shape = array.shape
    while array.ndim > 2 and len(array) == 1:
        array = array[0]
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            f"{about} must be (h, w), got shape {shape}.",
            "Sum the channels of an attribution first.",
        )
    if not np.isfinite(array).all():
        raise InputError(f"{about} has values that are not finite.")
    if np.ptp(array) == 0:
        raise MethodError(
            f"{about} is constant and gives no order of the pixels.",
            "Check its target: the seed may be zero.",
        )
    return array


def on_pixels(values: Values, shape: Sequence[int]) -> Values:
    """Return a map on the pixels of the network's input, (H, W).

    As for display (`cvx_core.images.resample`): linear between the centers of positions.
    """
    height, width = shape
    if values.shape == (height, width):
        return values
    whole = 0.0, 0.0, float(width), float(height)
    enlarged = resample(values.astype(np.float32), whole, (height, width))
    return np.asarray(enlarged, dtype=np.float64)


def ranks(values: Values, seed: int) -> torch.Tensor:
    """Return the rank of each pixel, int64 (H, W), 0 for the largest value.

    The order of equal values is random and determined by the seed.
    """
    mixed = torch.randperm(values.size, generator=torch.Generator().manual_seed(seed)).numpy()
    order = mixed[np.argsort(-values.ravel()[mixed], kind="stable")]
    rank = torch.empty(values.size, dtype=torch.int64)
    rank[torch.from_numpy(order)] = torch.arange(values.size)
    return rank.view(values.shape)
