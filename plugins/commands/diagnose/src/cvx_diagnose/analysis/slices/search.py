"""Search for slices: found on each half of the inputs, tested on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from cvx_diagnose.analysis.error_groups.names import Names, class_namer
from cvx_diagnose.analysis.metrics.statistics import adjust_p_values, wilson
from cvx_diagnose.analysis.slices.candidates import (
    FEWEST,
    Candidate,
    CandidateSearch,
    likelihood_ratio,
)
from cvx_diagnose.analysis.slices.names import cluster_phrase, slice_name
from cvx_diagnose.analysis.slices.units import Columns, Units, read_units
from cvx_diagnose.run.results import Run

Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

RATE = 0.05
"""Expected share of false discoveries among the slices."""

_TESTED = 20
"""Maximum number of candidates of each half that are tested."""

_LEAST = 0.05
"""Minimum difference of accuracy inside and outside."""

_RESIDUAL = 0.05
"""p-value of the rest of a slice beside those before it, above which it is left out."""

EXAMPLES = 6


@dataclass(eq=False)
class Slices:
    """Slices of a run.

    Attributes
    ----------
    described
        The costly ones first; see the reference of ``summary.json``.
    members, errors
        Of each slice the ids of its images, and of those with an error in it, the clearest first.
    held_out
        Of each slice its units (n,) in the half that it was not found on.
    tested
        Number of candidates that were tested.
    """

    described: list[dict[str, Any]] = field(default_factory=list)
    members: list[Whole] = field(default_factory=list)
    errors: list[Whole] = field(default_factory=list)
    held_out: list[Flags] = field(default_factory=list)
    tested: int = 0

    def document(self) -> dict[str, Any]:
        """Return what ``summary.json`` says of them."""
        return {"tested": self.tested, "found": self.described}


def find_slices(run: Run, columns: Columns | None = None, without: Sequence[int] = ()) -> Slices:
    """Return the slices of a run.

    Parameters
    ----------
    run
        Finished.
    columns
        Further columns of the data, for each input by its id.
    without
        Ids of inputs that are left out, such as those whose label is suspected.
    """
    units = read_units(run, columns, without)
    return Slices() if units is None else slices_of(units, class_namer(run.plan.classes))


def slices_of(units: Units, name: Names) -> Slices:
    """Return the slices of units.

    A slice is a set of units with something in common whose accuracy is lower than that of the
    others. Candidates are found on each half, one after the other among the units that those before
    leave. Among these, on the other half, Fisher's exact test compares each with the rest, and one
    of several conditions with the rest of each of them; p-values are adjusted (Benjamini and
    Hochberg, 1995). Those that overlap clearer ones are kept as long as what they have beyond
    these is worse than the rest, too.

    Parameters
    ----------
    units
        Of a run.
    name
        From a class index to its name.
    """
    if min(units.searched.sum(), (~units.searched).sum()) < 2 * FEWEST:
        return Slices()
    tried = [*_search(units), *_search(units.swapped())]
    p_values = adjust_p_values([_p_value(one) for one in tried])
    found = Slices(tested=len(tried))
    covered = np.zeros(len(units), dtype=bool)
    for k in np.argsort([-_clarity(one) for one in tried], kind="stable"):
        one, p, member = tried[k], float(p_values[k]), tried[k].candidate.member
        if p >= RATE or not _worse(one) or not _more(one.units, member, covered):
            continue
        covered |= member
        found.described.append(_described(one, p, name))
        found.members.append(np.unique(units.ids[member]))
        found.held_out.append(one.compared[0])
        at = np.flatnonzero(member & ~units.right)
        clear = at[np.argsort(-one.candidate.conditions[0].typical[at], kind="stable")]
        found.errors.append(
            np.array(list(dict.fromkeys(units.ids[clear].tolist())), dtype=np.int64)
        )
    _sort(found)
    return found


@dataclass(frozen=True, eq=False)
class _Tried:
    """A candidate, with the units whose searched half it was found on, and those left for it."""

    units: Units
    candidate: Candidate
    free: Flags

    @property
    def compared(self) -> tuple[Flags, Flags]:
        """Units of the tested half that are left for it, inside and outside of it."""
        tested, member = self.free & ~self.units.searched, self.candidate.member
        return tested & member, tested & ~member


def _search(units: Units) -> list[_Tried]:
    """Return candidates one after the other, each among the units that those before leave."""
    search = CandidateSearch(units)
    free = np.ones(len(units), dtype=bool)
    found: list[_Tried] = []
    while len(found) < _TESTED and (one := search.best(~free)) is not None:
        found.append(_Tried(units, one, free))
        free = free & ~one.member
    return found


def _p_value(one: _Tried) -> float:
    """Return the largest p-value that it is worse than the rest of each of its parents."""
    inside = one.candidate.member & one.free
    return max(
        _fisher(one.units, inside, parent & one.free & ~inside) for parent in one.candidate.parents
    )


def _fisher(units: Units, inside: Flags, outside: Flags) -> float:
    """Return the p-value, on the tested half, that accuracy inside is not lower than outside."""
    tested = ~units.searched
    effect = units.design_effect
    (k, n), (other_k, other_n) = (
        [round(float(one.sum()) / effect) for one in (part & tested & ~units.right, part & tested)]
        for part in (inside, outside)
    )
    if n == 0 or other_n == 0:
        return 1.0
    return float(hypergeom.sf(k - 1, n + other_n, k + other_k, n))


def _clarity(one: _Tried) -> float:
    """Return the quality of a candidate on both halves, by which those that overlap are ranked."""
    wrong, member = ~one.units.right & one.free, one.candidate.member & one.free
    k, n = np.array(float((wrong & member).sum())), np.array(float(member.sum()))
    ratio = likelihood_ratio(k, n, float(wrong.sum()), float(one.free.sum()))
    return float(ratio) * one.candidate.preference


def _worse(one: _Tried) -> bool:
    right, (inside, outside) = one.units.right, one.compared
    return bool(right[outside].mean() - right[inside].mean() >= _LEAST)


def _more(units: Units, member: Flags, covered: Flags) -> bool:
    """Say whether what a slice has beyond those before it is worse than the rest."""
    rest, wrong = member & ~covered, ~units.right
    if 2 * (rest & wrong).sum() < (member & wrong).sum():
        return False
    return _fisher(units, rest, ~member & ~covered) < _RESIDUAL


def _described(one: _Tried, p: float, name: Names) -> dict[str, Any]:
    units, candidate = one.units, one.candidate
    member = candidate.member
    classes = [each.rule["class"] for each in candidate.conditions if each.kind == "class"]
    clusters = [each for each in candidate.conditions if each.kind == "cluster"]
    scope = units.classes == classes[0] if classes else np.ones(len(units), dtype=bool)
    inside, outside = (_accuracy(units.right[part]) for part in one.compared)
    compared = _accuracy(units.right[scope & one.compared[1]])
    phrase = cluster_phrase(units, member, scope) if clusters else None
    gain = float(member.mean()) * max(0.0, (compared["value"] or 0.0) - (inside["value"] or 0.0))
    at = np.flatnonzero(member & ~units.right)
    clear = at[np.argsort(-candidate.conditions[0].typical[at], kind="stable")]
    return {
        "name": slice_name(candidate.conditions, units.noun, name, phrase),
        "kind": candidate.conditions[0].kind,
        "rules": [each.rule for each in candidate.conditions],
        "class": classes[0] if classes else None,
        "units": units.noun,
        "count": int(member.sum()),
        "errors": int((member & ~units.right).sum()),
        "inside": inside,
        "outside": outside,
        "p": p,
        "gain": gain,
        "fix": next((each.fix for each in candidate.conditions if each.fix), ""),
        "examples": [int(k) for k in dict.fromkeys(units.ids[clear].tolist())][:EXAMPLES],
    }


def _accuracy(right: Flags) -> dict[str, Any]:
    low, high = wilson(int(right.sum()), len(right))
    value = float(right.mean()) if len(right) else None
    return {
        "right": int(right.sum()),
        "total": len(right),
        "value": value,
        "low": low,
        "high": high,
    }


def _sort(found: Slices) -> None:
    """Put the slices with the largest possible gain first, and number them."""
    order = sorted(range(len(found.described)), key=lambda k: -found.described[k]["gain"])
    for name in ("described", "members", "errors", "held_out"):
        setattr(found, name, [getattr(found, name)[k] for k in order])
    for number, one in enumerate(found.described):
        one["number"] = number


def slices_of_each(slices: Slices) -> Mapping[int, list[int]]:
    """Return the numbers of the slices that each image with an error in them is in."""
    found: dict[int, list[int]] = {}
    for number, ids in enumerate(slices.errors):
        for one in ids.tolist():
            found.setdefault(one, []).append(number)
    return found
