"""From a map's cells to an order of the network's pixels."""

from __future__ import annotations

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
        What messages call it.

    Raises
    ------
    InputError
        If it has another shape, or holds values that are not finite.
    MethodError
        If it is the same everywhere.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    array = np.asarray(values, dtype=np.float64)
    shape = array.shape
    while array.ndim > 2 and len(array) == 1:
        array = array[0]
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            f"{about} has the shape {shape}.",
            "A map is (h, w), over the network's input; sum the channels of an attribution first.",
        )
    if not np.isfinite(array).all():
        raise InputError(f"{about} holds values that are not finite.")
    if np.ptp(array) == 0:
        raise MethodError(
            f"{about} is the same everywhere, so that it says nothing about where.",
            "Look at what it was made of: the question may have a zero seed.",
        )
    return array


def on_pixels(values: Values, shape: tuple[int, int]) -> Values:
    """Return a map on the pixels of the network's input, (H, W).

    As pictures show it (`cvx_core.images.resampling`): linear between the centres of cells.
    """
    if values.shape == shape:
        return values
    height, width = shape
    enlarged = resample(values.astype(np.float32), (0.0, 0.0, float(width), float(height)), shape)
    return np.asarray(enlarged, dtype=np.float64)


def ranks(values: Values, seed: int) -> torch.Tensor:
    """Return each pixel's place, int64 (H, W), the largest value being 0.

    Among equal values chance decides, always in the same way for the same seed.
    """
    mixed = torch.randperm(values.size, generator=torch.Generator().manual_seed(seed)).numpy()
    order = mixed[np.argsort(-values.ravel()[mixed], kind="stable")]
    place = torch.empty(values.size, dtype=torch.int64)
    place[torch.from_numpy(order)] = torch.arange(values.size)
    return place.view(values.shape)
