"""Candidates of slices: what units of one half have in common whose predictions are wrong.

Image properties and columns with a threshold, over all units and within a class; values of columns
and classes, and pairs of them; clusters of features, over all units and within a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from scipy.stats import chi2
from sklearn.cluster import KMeans

from cvx_diagnose.analysis.slices.properties import Property
from cvx_diagnose.analysis.slices.units import Units

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

FEWEST = 10
"""Minimum number of units of a slice in each half, and twice the minimum number of errors."""

_PROMISING = 1e-3
"""p-value on the searched half above which a candidate is dropped before it is tested."""

_CLEAR = 1e-6
"""p-value on the searched half below which a property or a column comes before all others."""

_PLAIN = 0.7
"""Preference above which a candidate can be named by a property, a column or a class."""

_CLASSES = 200
"""Number of classes searched by themselves: those with most errors."""

_CLUSTERS = (2, 3, 4, 5)
_CLUSTERS_OF_ALL = (8, 16, 32)
_SAMPLE = 5000
"""Units that clusters are computed from."""

_TOGETHER = 32
"""Properties whose thresholds are searched at once."""

_ATOMS = 200
"""Conditions whose pairs are tried, the best ones."""

_BOUNDED = 20
"""Number of thresholds among them."""

_CLASS, _CLUSTER = 0.9, 0.6
"""Preference of a class and of a cluster; see `Condition`."""

_GAP = 0.5
"""What a gap of one standard deviation at a bound adds to its preference: units below are a kind of
their own, and not the tail of the others."""

_CONCENTRATED = 0.5
"""Share of a slice's errors in one class from which it is that of the class."""


@dataclass(frozen=True, eq=False)
class Condition:
    """One condition of a slice, with its name.

    Attributes
    ----------
    kind
        property, column, class or cluster.
    member
        (n,), the units that meet it.
    preference
        Factor of the quality of a slice: the simpler a condition is to understand, the larger.
    typical
        (n,), the larger the clearer a unit meets it.
    rule
        As in ``summary.json``.
    phrase
        With ``{}`` for the noun; empty for a class and a cluster.
    fix
        What to do about these images, or empty.
    """

    kind: str
    member: Flags
    preference: float
    typical: Array
    rule: dict[str, Any]
    phrase: str = ""
    fix: str = ""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A slice that may be one: all of its conditions hold.

    Attributes
    ----------
    conditions
        Its conditions.
    quality
        Likelihood ratio statistic of its share of errors and that of the rest, on the searched
        half, times the preferences of its conditions.
    """

    conditions: tuple[Condition, ...]
    quality: float

    @property
    def member(self) -> Flags:
        """(n,), its units."""
        found: Flags = np.logical_and.reduce([one.member for one in self.conditions])
        return found

    @property
    def preference(self) -> float:
        """Product of the preferences of its conditions."""
        return float(np.prod([one.preference for one in self.conditions]))

    @property
    def parents(self) -> list[Flags]:
        """Sets of units (n,) that it is compared with the rest of: all, and its class or column."""
        everything = np.ones(len(self.conditions[0].member), dtype=bool)
        if len(self.conditions) == 1:
            return [everything]
        whole = [one.member for one in self.conditions if one.kind in ("class", "column")]
        return [everything, *whole]


def likelihood_ratio(k: Array, n: Array, total_k: Array | float, total_n: Array | float) -> Array:
    """Return the statistic that k of n differs from the rest of total_k of total_n, 0 if less.

    Examples
    --------
    >>> round(float(likelihood_ratio(np.array(9.0), np.array(10.0), 10.0, 100.0)), 1)
    43.2
    """
    share = total_k / np.maximum(total_n, 1)
    other_k, other_n = total_k - k, total_n - n
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 2 * sum(
            xlogy(a, a / (b * p))
            for a, b, p in (
                (k, n, share),
                (n - k, n, 1 - share),
                (other_k, other_n, share),
                (other_n - other_k, other_n, 1 - share),
            )
        )
    return np.where(k * other_n > other_k * n, np.nan_to_num(found), 0.0)


class CandidateSearch:
    """Search for candidates on the searched half of the units alone.

    Parameters
    ----------
    units
        Of a run.
    """

    def __init__(self, units: Units) -> None:
        self.units, self.wrong = units, ~units.right
        self.scopes = [None, *_classes_searched(units)]
        self.clusters: list[tuple[int | None, list[Condition]]] = []
        if units.features.shape[1]:
            self.clusters = [(c, list(_clusters(units, c))) for c in self.scopes]
        self.limit, self.clear = (float(chi2.isf(p, 1)) for p in (_PROMISING, _CLEAR))

    def best(self, covered: Flags) -> Candidate | None:
        """Return the best candidate among the units that are not covered, or None."""
        units, wrong = self.units, self.wrong
        free = units.searched & ~covered
        total = _Total(float((wrong & free).sum()), float(free.sum()))
        single = [
            one for c in self.scopes for one in _thresholds(units, wrong & free, free, c, total)
        ]
        every = [*single, *self._clustered(free, total)]
        every += _pairs(wrong, free, _atoms(units, single), total)
        promising = [(score, one) for score, one in every if score >= self.limit]
        # What can be named comes first: a cluster, or a color at one position, may be the union of
        # several causes.
        clear = [
            pair for pair in promising if pair[0] >= self.clear and pair[1].preference > _PLAIN
        ]
        found = max((one for _, one in clear or promising), key=_quality, default=None)
        return None if found is None else self._of_its_class(found, every, free)

    def _of_its_class(self, found: Candidate, every: list[_Scored], free: Flags) -> Candidate:
        """Return the threshold of one class, if most errors of a slice are of that class."""
        [condition, *others] = found.conditions
        classes = self.units.classes[found.member & free & self.wrong]
        if others or condition.kind != "property" or not (classes >= 0).any():
            return found
        counts = np.bincount(classes[classes >= 0])
        c = int(counts.argmax())
        if counts[c] < _CONCENTRATED * len(classes):
            return found
        name, bound = [*condition.rule][:2]
        same = [
            one
            for score, one in every
            if len(one.conditions) == 2
            and score >= self.limit
            and one.conditions[1].rule.get("class") == c
            and one.conditions[0].rule.get(name) == condition.rule[name]
            and bound in one.conditions[0].rule
        ]
        return same[0] if same else found

    def _clustered(self, free: Flags, total: _Total) -> Iterator[_Scored]:
        wrong = self.wrong & free
        for c, clusters in self.clusters:
            scope, conditions = _within(self.units, free, c)
            of_k, of_n = float((wrong & scope).sum()), float(scope.sum())
            for one in clusters:
                k, n = float((one.member & wrong).sum()), float((one.member & free).sum())
                if n >= FEWEST and k >= FEWEST / 2:
                    score = float(likelihood_ratio(np.array(k), np.array(n), of_k, of_n))
                    yield score, total.candidate((one, *conditions), k, n)


@dataclass(frozen=True)
class _Total:
    """Errors and units that are searched."""

    wrong: float
    count: float

    def candidate(self, conditions: tuple[Condition, ...], k: float, n: float) -> Candidate:
        ratio = likelihood_ratio(np.array(k), np.array(n), self.wrong, self.count)
        found = Candidate(conditions, float(ratio))
        return replace(found, quality=found.quality * found.preference)


def _quality(one: Candidate) -> float:
    return one.quality


_Scored = tuple[float, Candidate]
"""Likelihood ratio of a candidate within its scope, and the candidate."""


def _classes_searched(units: Units) -> list[int]:
    classes, errors = units.classes[units.searched], ~units.right[units.searched]
    known = classes >= 0
    if not known.any() or len(np.unique(classes[known])) < 2:
        return []
    counts = np.bincount(classes[known], weights=errors[known])
    sizes = np.bincount(classes[known])
    possible = np.flatnonzero((sizes >= 2 * FEWEST) & (counts >= FEWEST / 2))
    return [int(c) for c in possible[np.argsort(-counts[possible], kind="stable")][:_CLASSES]]


def _class_condition(units: Units, c: int) -> Condition:
    member = units.classes == c
    return Condition("class", member, _CLASS, member.astype(np.float32), {"class": c})


def _within(units: Units, free: Flags, c: int | None) -> tuple[Flags, tuple[Condition, ...]]:
    """Return the units of a scope, and the condition that makes it."""
    if c is None:
        return free, ()
    condition = _class_condition(units, c)
    return free & condition.member, (condition,)


def _thresholds(
    units: Units, wrong: Flags, free: Flags, c: int | None, total: _Total
) -> Iterator[_Scored]:
    """Yield the best threshold of each property, from below and from above."""
    scope, conditions = _within(units, free, c)
    at = np.flatnonzero(scope)
    errors = wrong[at]
    if len(at) < 2 * FEWEST or errors.sum() < FEWEST / 2:
        return
    for start in range(0, len(units.properties), _TOGETHER):
        values = units.values[at, start : start + _TOGETHER]
        for sign in (1, -1):
            for k, (bound, gap, score, bad, size) in enumerate(_best_bounds(sign * values, errors)):
                one = units.properties[start + k]
                if score > 0 and (one.low if sign > 0 else one.high):
                    condition = _bounded(units, start + k, one, sign, sign * bound, gap)
                    yield score, total.candidate((condition, *conditions), bad, size)


def _best_bounds(values: Array, wrong: Flags) -> Iterator[tuple[float, float, float, float, float]]:
    """Yield for each column the bound below which errors are most concentrated.

    Beside it the gap between the values below and above in standard deviations, the likelihood
    ratio, and how many errors and units there are below.
    """
    order = np.argsort(values, axis=0, kind="stable")
    sorted_ = np.take_along_axis(values, order, 0)
    k = np.cumsum(wrong[order], axis=0)
    n = np.arange(1, len(values) + 1)[:, None]
    score = likelihood_ratio(k, n, float(wrong.sum()), float(len(wrong)))
    with np.errstate(invalid="ignore"):
        last = np.ones(values.shape, dtype=bool)
        last[:-1] = sorted_[1:] > sorted_[:-1]
    last |= np.isfinite(sorted_) & np.roll(np.isnan(sorted_), -1, 0)
    allowed = last & (n >= FEWEST) & (k >= FEWEST / 2) & np.isfinite(sorted_)
    # A set that is nearly all of the scope describes the rest, not itself.
    allowed &= n <= 0.8 * len(values)
    score = np.where(allowed, score, 0.0)
    best = score.argmax(0)
    spread = np.nanstd(np.where(np.isfinite(values), values, np.nan), axis=0)
    for column, row in enumerate(best):
        below, above = sorted_[row, column], sorted_[min(row + 1, len(values) - 1), column]
        middle, gap = below, 0.0
        if np.isfinite(above):
            middle, gap = (below + above) / 2, float((above - below) / max(spread[column], 1e-9))
        yield float(middle), gap, float(score[row, column]), float(k[row, column]), float(row + 1)


def _bounded(units: Units, k: int, one: Property, sign: int, bound: float, gap: float) -> Condition:
    values = units.values[:, k]
    with np.errstate(invalid="ignore"):
        member = sign * values <= sign * bound
    return Condition(
        "property",
        member,
        one.preference * (1 + _GAP * min(gap, 1.0)),
        np.nan_to_num(-sign * values, nan=-np.inf),
        {"property": one.name, "at most" if sign > 0 else "at least": bound},
        one.low if sign > 0 else one.high,
        one.fix[0 if sign > 0 else 1],
    )


def _clusters(units: Units, c: int | None) -> Iterator[Condition]:
    """Yield the clusters of the features, of several numbers of clusters."""
    scope, conditions = _within(units, units.searched, c)
    at = np.flatnonzero(scope)
    sample = at[np.linspace(0, len(at) - 1, min(len(at), _SAMPLE)).astype(int)]
    everyone = np.ones(len(units), dtype=bool) if c is None else conditions[0].member
    for count in _CLUSTERS_OF_ALL if c is None else _CLUSTERS:
        if len(sample) < 2 * count * FEWEST:
            continue
        fitted = KMeans(count, n_init=2, random_state=0).fit(units.features[sample])
        distances = np.full((len(units), count), np.inf, dtype=np.float32)
        distances[everyone] = fitted.transform(units.features[everyone])
        nearest = np.where(everyone, distances.argmin(1), -1)
        for j in range(count):
            rule = {"cluster": j, "of": count}
            yield Condition("cluster", nearest == j, _CLUSTER, -distances[:, j], rule)


def _atoms(units: Units, scored: list[_Scored]) -> list[Condition]:
    """Return the conditions whose pairs are tried."""
    atoms = []
    for name, values in units.categories.items():
        for value in np.unique(values[values != ""]):
            member = values == value
            rule = {"column": name, "value": str(value)}
            phrase = f"{{}} with {name} {value}"
            atoms.append(Condition("column", member, 1.0, member.astype(np.float32), rule, phrase))
    classes = [int(c) for c in np.unique(units.classes) if c >= 0]
    if len(classes) > 1:
        atoms += [_class_condition(units, c) for c in classes]
    single = [pair for pair in scored if len(pair[1].conditions) == 1]
    single.sort(key=lambda pair: -pair[0])
    return [*atoms, *(one.conditions[0] for _, one in single[:_BOUNDED])]


def _pairs(wrong: Flags, free: Flags, atoms: list[Condition], total: _Total) -> Iterator[_Scored]:
    """Yield single conditions, and pairs that are worse than the rest of both.

    All pairs at once by a product of matrices, as in SliceLine (Sagadeeva and Boehm, SIGMOD 2021).
    """
    at = np.flatnonzero(free)
    if not atoms or not len(at):
        return
    member = np.stack([one.member[at] for one in atoms], 1)
    order = np.argsort(-(member & wrong[at, None]).sum(0), kind="stable")[:_ATOMS]
    atoms, member = [atoms[j] for j in order], member[:, order].astype(np.float32)
    n = member.T @ member
    k = member.T @ (member * wrong[at, None])
    of_all = likelihood_ratio(k, n, total.wrong, total.count)
    size, errors = np.diag(n), np.diag(k)
    of_first = likelihood_ratio(k, n, errors[:, None], size[:, None])
    of_second = likelihood_ratio(k, n, errors[None], size[None])
    score = np.minimum(np.minimum(of_first, of_second), of_all)
    enough = (n >= FEWEST) & (k >= FEWEST / 2)
    for i, one in enumerate(atoms):
        if enough[i, i] and one.kind != "property":
            yield float(of_all[i, i]), total.candidate((one,), k[i, i], n[i, i])
    for i, j in np.argwhere(np.triu(enough & (score > 0), 1)):
        # Thresholds within a class are searched by themselves, and those of two properties would
        # be too many to be told from chance.
        if "column" in (atoms[i].kind, atoms[j].kind):
            found = total.candidate((atoms[i], atoms[j]), float(k[i, j]), float(n[i, j]))
            yield float(score[i, j]), found
