"""Does a patch or a place recur under errors, and not under right answers?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import fisher_exact
from sklearn.metrics import silhouette_score

from cvx_diagnose.analysis.metrics.statistics import shuffle_ids

Numbers = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

_WITHIN = 0.95
"""Share of errors that the patch of one half takes in."""

_LEAST = 4
"""Errors in a half from which something can be said of the other."""

_APART = 0.5
"""Mean silhouette up to which structure is weak, and may be none (Kaufman and Rousseeuw, 1990)."""

_MOST = 500
"""Errors of each of two groups that are compared."""


def occurrences(members: Numbers, ids: Sequence[int], controls: Numbers) -> tuple[Flags, Flags]:
    """Return which errors and which right answers show what a group of errors has in common.

    Whoever draws a line around some points finds them inside. Therefore one half of the group draws
    it, a ball that holds 95 % of it, and the other half is counted, and the other way round.

    Parameters
    ----------
    members, ids
        (n, F), what lies under the maps of the group's errors, and their numbers, by which they
        are halved.
    controls
        (m, F), the same of right answers.

    Returns
    -------
    pair of arrays
        (n,) whether an error is in the ball of the half that it is not in; (m,) whether a right
        answer is in either ball. All errors are false where there are too few to halve.
    """
    ranks = {number: k for k, number in enumerate(shuffle_ids(ids))}
    first = np.array([ranks[number] % 2 == 0 for number in ids], dtype=bool)
    shown, right = np.zeros(len(members), dtype=bool), np.zeros(len(controls), dtype=bool)
    if len(members) < 2 * _LEAST:
        return shown, right
    for half in (first, ~first):
        middle = members[half].mean(0)
        reach = np.quantile(_far(members[half], middle), _WITHIN)
        shown[~half] = _far(members[~half], middle) <= reach
        right |= _far(controls, middle) <= reach
    return shown, right


def _far(points: Numbers, middle: Numbers) -> Numbers:
    found: Numbers = np.linalg.norm(points.astype(np.float64) - middle, axis=1)
    return found


def more_often(errors: Flags, controls: Flags) -> float:
    """Return the chance that so much more of the errors show it, were it as common in both.

    Fisher's exact test, one side.

    Examples
    --------
    >>> round(more_often(np.array([True] * 3), np.array([False] * 3)), 3)
    0.05
    """
    table = [[int(flags.sum()), int((~flags).sum())] for flags in (errors, controls)]
    return float(fisher_exact(table, alternative="greater").pvalue)


def joined(groups: Sequence[Numbers]) -> list[list[int]]:
    """Return which groups have one cause: those that are hardly told apart by what is under maps.

    Groups were made for each wrong answer by itself. Two are joined where the mean silhouette of
    the two shows weak structure at most.

    Parameters
    ----------
    groups
        For each (n, F).

    Returns
    -------
    list of list of int
        Places in `groups`, each once, in order of the first.
    """
    root = list(range(len(groups)))

    def find(k: int) -> int:
        while root[k] != k:
            k = root[k]
        return k

    for a in range(len(groups)):
        for b in range(a + 1, len(groups)):
            if _alike(groups[a], groups[b]):
                root[max(find(a), find(b))] = min(find(a), find(b))
    found: dict[int, list[int]] = {}
    for k in range(len(groups)):
        found.setdefault(find(k), []).append(k)
    return list(found.values())


def _alike(one: Numbers, other: Numbers) -> bool:
    several = [
        group[np.linspace(0, len(group) - 1, min(_MOST, len(group))).astype(int)]
        for group in (one, other)
    ]
    parts = np.repeat([0, 1], [len(group) for group in several])
    return float(silhouette_score(np.concatenate(several), parts)) < _APART
