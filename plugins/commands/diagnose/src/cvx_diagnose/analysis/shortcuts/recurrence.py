"""Recurrence of a patch or a location under errors, compared with correct predictions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components
from scipy.stats import fisher_exact
from sklearn.metrics import silhouette_score

from cvx_diagnose.analysis.metrics.statistics import shuffle_ids

Numbers = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

_WITHIN = 0.95
"""Share of the errors of one half that its ball contains."""

_LEAST = 4
"""Errors in a half from which the other half can be judged."""

_APART = 0.5
"""Mean silhouette below which structure is weak or absent (Kaufman and Rousseeuw, 1990)."""

_MOST = 500
"""Errors of each of two groups that are compared."""


def occurrences(members: Numbers, ids: Sequence[int], controls: Numbers) -> tuple[Flags, Flags]:
    """Return which errors and which correct predictions show what a group of errors has in common.

    A boundary drawn around some points contains them by construction. Therefore one half of the
    group defines it, a ball that contains 95 % of that half, and the other half is counted, and
    vice versa.

    Parameters
    ----------
    members, ids
        (n, F), features under the maps of the group's errors, and their ids, by which they are
        halved.
    controls
        (m, F), the same of correct predictions.

    Returns
    -------
    pair of arrays
        (n,) whether an error is in the ball of the half that it is not in; (m,) whether a correct
        prediction is in either ball. All errors are false where there are too few to halve.
    """
    ranks = {number: k for k, number in enumerate(shuffle_ids(ids))}
    first = np.array([ranks[number] % 2 == 0 for number in ids], dtype=bool)
    shown, correct = np.zeros(len(members), dtype=bool), np.zeros(len(controls), dtype=bool)
    if len(members) < 2 * _LEAST:
        return shown, correct
    for half in (first, ~first):
        center = members[half].mean(0)
        reach = np.quantile(_far(members[half], center), _WITHIN)
        shown[~half] = _far(members[~half], center) <= reach
        correct |= _far(controls, center) <= reach
    return shown, correct


def _far(points: Numbers, center: Numbers) -> Numbers:
    found: Numbers = np.linalg.norm(points.astype(np.float64) - center, axis=1)
    return found


def fisher_test(errors: Flags, controls: Flags) -> float:
    """Return the p-value of Fisher's exact test that more of the errors show it, one-sided.

    Examples
    --------
    >>> round(fisher_test(np.array([True] * 3), np.array([False] * 3)), 3)
    0.05
    """
    table = [[int(flags.sum()), int((~flags).sum())] for flags in (errors, controls)]
    return float(fisher_exact(table, alternative="greater").pvalue)


def join_similar_groups(groups: Sequence[Numbers]) -> list[list[int]]:
    """Return which groups have one cause: those whose features are hardly separated.

    Groups were made for each wrong prediction by itself. Two are joined where the mean silhouette
    of the two shows weak structure at most.

    Parameters
    ----------
    groups
        For each (n, F).

    Returns
    -------
    list of list of int
        Indices into `groups`, each once, in order of the first.
    """
    alike = np.eye(len(groups), dtype=bool)
    for a, b in combinations(range(len(groups)), 2):
        alike[a, b] = _alike(groups[a], groups[b])
    _, labels = connected_components(alike, directed=False)
    found: dict[int, list[int]] = {}
    for k, label in enumerate(labels.tolist()):
        found.setdefault(label, []).append(k)
    return list(found.values())


def _alike(one: Numbers, other: Numbers) -> bool:
    several = [
        group[np.linspace(0, len(group) - 1, min(_MOST, len(group))).astype(int)]
        for group in (one, other)
    ]
    parts = np.repeat([0, 1], [len(group) for group in several])
    return float(silhouette_score(np.concatenate(several), parts)) < _APART
