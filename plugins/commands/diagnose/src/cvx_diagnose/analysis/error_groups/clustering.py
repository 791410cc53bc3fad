"""Groups of errors: which have the same cause, told from what lies under their maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score

Numbers = npt.NDArray[Any]

LEAST = 5
"""Errors in a group, at least; wrong answers that are rarer are put together first."""

STRUCTURE = 0.25
"""Mean silhouette below which there are no groups (Kaufman and Rousseeuw, 1990, table 4)."""

SLACK = 0.05
"""Of two numbers of groups whose silhouettes are this close, the smaller is taken."""

_MOST_GROUPS = 8
_MOST_TOGETHER = 2000
"""Errors that are clustered at once; the others join the group whose middle is nearest."""


def grouped(features: Numbers, answers: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the group of each error, from 0, in no particular order.

    Errors with one wrong answer are one group or several: of Ward's clusterings into 2, 3, ... the
    smallest is taken whose mean silhouette (Rousseeuw, J. Comput. Appl. Math. 1987) is all but
    the best, and none where no silhouette shows structure.

    Parameters
    ----------
    features
        (n, F): what lies under each error's map.
    answers
        The wrong answer of each error; what is found in fewer than `LEAST` errors is one answer.
    """
    names, code = np.unique(np.array(answers, dtype=object).astype(str), return_inverse=True)
    counts = np.bincount(code, minlength=len(names))
    code = np.where(counts[code] < LEAST, len(names), code)
    found = np.zeros(len(code), dtype=np.int64)
    groups = 0
    for answer in np.unique(code):
        at = np.flatnonzero(code == answer)
        parts = divided(features[at])
        found[at] = groups + parts
        groups += int(parts.max()) + 1
    return found


def divided(features: Numbers, number: int | None = None) -> npt.NDArray[np.int64]:
    """Return the parts of errors that have one wrong answer, from 0.

    Parameters
    ----------
    features
        (n, F).
    number
        How many parts, where that is known.
    """
    count = len(features)
    sample = features
    if count > _MOST_TOGETHER:
        sample = features[np.linspace(0, count - 1, _MOST_TOGETHER).astype(int)]
    parts = _parts(sample, number)
    if count == len(sample):
        return parts
    middles = np.stack([sample[parts == k].mean(0) for k in range(int(parts.max()) + 1)])
    distances = ((features[:, None] - middles[None]) ** 2).sum(2)
    nearest: npt.NDArray[np.int64] = distances.argmin(1)
    return nearest


def _parts(sample: Numbers, number: int | None) -> npt.NDArray[np.int64]:
    whole = np.zeros(len(sample), dtype=np.int64)
    if number is not None:
        return _ward(sample, number) if number > 1 else whole
    most = min(_MOST_GROUPS, len(sample) // LEAST)
    choices = {}
    for k in range(2, most + 1):
        parts = _ward(sample, k)
        if np.bincount(parts).min() >= LEAST:
            choices[k] = parts, float(silhouette_score(sample, parts))
    if not choices or max(score for _, score in choices.values()) < STRUCTURE:
        return whole
    best = max(score for _, score in choices.values())
    return next(parts for parts, score in choices.values() if score >= best - SLACK)


def _ward(sample: Numbers, number: int) -> npt.NDArray[np.int64]:
    parts: npt.NDArray[np.int64] = AgglomerativeClustering(number).fit_predict(sample)
    return parts
