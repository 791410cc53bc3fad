"""Clustering of errors by the features under their maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score

Numbers = npt.NDArray[Any]

MIN_SIZE = 5
"""Minimum number of errors in a group; rarer wrong predictions are put together first."""

STRUCTURE = 0.25
"""Mean silhouette below which there are no groups (Kaufman and Rousseeuw, 1990, table 4)."""

SLACK = 0.05
"""Of two numbers of groups whose silhouettes differ by less, the smaller is taken."""

_MOST_GROUPS = 8
_MOST_TOGETHER = 2000
"""Maximum number of errors clustered at once; the others join the nearest group."""


def group_errors(features: Numbers, predictions: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the group of each error, from 0, in no particular order.

    Errors with one wrong prediction form one group or several: of Ward's clusterings into 2, 3,
    ... the smallest is taken whose mean silhouette (Rousseeuw, J. Comput. Appl. Math. 1987) is
    within `SLACK` of the best, and none where no silhouette shows structure.

    Parameters
    ----------
    features
        (n, F), under each error's map.
    predictions
        The wrong prediction of each error; those with fewer than `MIN_SIZE` errors are one group.
    """
    names, code = np.unique(np.array(predictions, dtype=object).astype(str), return_inverse=True)
    counts = np.bincount(code, minlength=len(names))
    code = np.where(counts[code] < MIN_SIZE, len(names), code)
    found = np.zeros(len(code), dtype=np.int64)
    groups = 0
    for prediction in np.unique(code):
        at = np.flatnonzero(code == prediction)
        # Rare wrong predictions have nothing in common that could be split.
        rare = prediction == len(names)
        parts = np.zeros(len(at), dtype=np.int64) if rare else split_group(features[at])
        found[at] = groups + parts
        groups += int(parts.max()) + 1
    return found


def split_group(features: Numbers) -> npt.NDArray[np.int64]:
    """Return the clusters of errors (n, F) that have one wrong prediction, from 0."""
    count = len(features)
    sample = features
    if count > _MOST_TOGETHER:
        sample = features[np.linspace(0, count - 1, _MOST_TOGETHER).astype(int)]
    parts = _parts(sample)
    if count == len(sample):
        return parts
    centers = np.stack([sample[parts == k].mean(0) for k in range(int(parts.max()) + 1)])
    distances = ((features[:, None] - centers[None]) ** 2).sum(2)
    nearest: npt.NDArray[np.int64] = distances.argmin(1)
    return nearest


def _parts(sample: Numbers) -> npt.NDArray[np.int64]:
    choices = []
    for k in range(2, min(_MOST_GROUPS, len(sample) // MIN_SIZE) + 1):
        parts = AgglomerativeClustering(k).fit_predict(sample)
        if np.bincount(parts).min() >= MIN_SIZE:
            choices.append((parts, float(silhouette_score(sample, parts))))
    best = max((score for _, score in choices), default=0.0)
    if best < STRUCTURE:
        return np.zeros(len(sample), dtype=np.int64)
    return next(parts for parts, score in choices if score >= best - SLACK)
