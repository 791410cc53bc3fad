"""Resample a map that covers a rectangle onto a grid of pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def resample(
    values: npt.NDArray[np.float32],
    rectangle: tuple[float, float, float, float],
    shape: tuple[int, int],
) -> npt.NDArray[np.float32]:
    """Draw positions that cover a rectangle onto pixels.

    Parameters
    ----------
    values
        (h, w).
    rectangle
        (left, top, right, bottom) covered by the positions, in pixels of the result.
    shape
        (height, width) of the result.

    Returns
    -------
    numpy.ndarray
        float32 `shape`: linear interpolation between centres when enlarging, the
        area-weighted mean when shrinking, the edge value beyond the outermost centres, and nan
        for pixels whose centre lies outside the rectangle.
    """
    left, top, right, bottom = rectangle
    rows = _weights(values.shape[0], top, bottom, shape[0])
    columns = _weights(values.shape[1], left, right, shape[1])
    out = (rows @ values.astype(np.float64) @ columns.T).astype(np.float32)
    out[np.isnan(rows[:, 0]), :] = np.nan
    out[:, np.isnan(columns[:, 0])] = np.nan
    return out


def _weights(cells: int, start: float, stop: float, pixels: int) -> npt.NDArray[np.float64]:
    """Return the (pixels, cells) matrix of a triangle filter; nan rows outside."""
    cell = (stop - start) / cells
    centres = np.arange(pixels) + 0.5
    position = (centres - start) / cell - 0.5
    support = max(1.0, 1.0 / cell)
    distance = np.abs(np.clip(position, 0, cells - 1)[:, None] - np.arange(cells)[None, :])
    weights: npt.NDArray[np.float64] = np.clip(1.0 - distance / support, 0.0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    weights[(centres < start) | (centres > stop)] = np.nan
    return weights
