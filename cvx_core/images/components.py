"""Connected components of a map of labels, and the border of one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

Ints = npt.NDArray[np.int64]


def components(labels: Ints) -> Ints:
    """Return a number from 0 for each connected component of equal labels.

    Parameters
    ----------
    labels
        (h, w); negative labels belong to none.

    Returns
    -------
    (h, w)
        -1 where the label is negative. Positions are connected through sides and corners;
        components are numbered by their first position, row by row.

    Examples
    --------
    >>> components(np.array([[1, 1, -1], [-1, 2, 1], [1, -1, -1]])).tolist()
    [[0, 0, -1], [-1, 1, 0], [2, -1, -1]]
    """
    positions = np.arange(labels.size).reshape(labels.shape)
    pairs = [
        (positions[a][same], positions[b][same])
        for a, b in _NEIGHBOURS
        for same in [(labels[a] == labels[b]) & (labels[a] >= 0)]
    ]
    u, v = (np.concatenate(side) for side in zip(*pairs, strict=True))
    # Union-find on all pairs at once: a root takes the least root next to it, then paths shrink.
    parent = np.arange(labels.size)
    while (parent[u] != parent[v]).any():
        low, high = np.minimum(parent[u], parent[v]), np.maximum(parent[u], parent[v])
        np.minimum.at(parent, high, low)
        while (parent != parent[parent]).any():
            parent = parent[parent]
    found = np.full(labels.size, -1)
    known = labels.reshape(-1) >= 0
    found[known] = np.unique(parent[known], return_inverse=True)[1]
    return found.reshape(labels.shape)


_ALL, _HEAD, _TAIL = slice(None), slice(None, -1), slice(1, None)
_NEIGHBOURS = [
    ((_ALL, _HEAD), (_ALL, _TAIL)),
    ((_HEAD, _ALL), (_TAIL, _ALL)),
    ((_HEAD, _HEAD), (_TAIL, _TAIL)),
    ((_HEAD, _TAIL), (_TAIL, _HEAD)),
]
"""Each position and its neighbour to the right, below, and below to the right and left."""


def border(mask: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    """Return the positions (h, w) of a mask up to `width` from one that is not in it.

    What Boundary IoU compares (Cheng et al., CVPR 2021), but the edge of the grid is no border.
    """
    around = 2 * width + 1
    padded = np.pad(mask, width, constant_values=True)
    deep = sliding_window_view(padded, (around, around)).all((2, 3))
    return mask & ~deep
