"""Search for slices: found on one half of the inputs, tested on the other."""

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
)
from cvx_diagnose.analysis.slices.names import cluster_phrase, slice_name
from cvx_diagnose.analysis.slices.units import Columns, Units, read_units
from cvx_diagnose.run.results import Run

Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

RATE = 0.05
"""Expected share of false discoveries among the slices."""

_TESTED = 20
"""Maximum number of candidates that are tested."""

_LEAST = 0.05
"""Minimum difference of accuracy inside and outside."""

_RESIDUAL = 0.01
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
    tested
        Number of candidates that were tested.
    """

    described: list[dict[str, Any]] = field(default_factory=list)
    members: list[Whole] = field(default_factory=list)
    errors: list[Whole] = field(default_factory=list)
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
    others. Candidates are found on one half. On the other half Fisher's exact test compares each
    with the rest, and one of several conditions with the rest of each of them; p-values are
    adjusted (Benjamini and Hochberg, 1995). Of those that overlap the better and simpler ones are
    kept, as long as what they have beyond those before is worse than the rest, too.

    Parameters
    ----------
    units
        Of a run.
    name
        From a class index to its name.
    """
    if min(units.searched.sum(), (~units.searched).sum()) < 2 * FEWEST:
        return Slices()
    candidates = _search(units)
    p_values = adjust_p_values([_p_value(units, one) for one in candidates])
    found = Slices(tested=len(candidates))
    covered = np.zeros(len(units), dtype=bool)
    for candidate, p in zip(candidates, p_values, strict=True):
        member = candidate.member
        if p >= RATE or not _worse(units, member) or not _more(units, member, covered):
            continue
        covered |= member
        found.described.append(_described(units, candidate, p, name))
        found.members.append(np.unique(units.ids[member]))
        at = np.flatnonzero(member & ~units.right)
        clear = at[np.argsort(-candidate.conditions[0].typical[at], kind="stable")]
        found.errors.append(
            np.array(list(dict.fromkeys(units.ids[clear].tolist())), dtype=np.int64)
        )
    _sort(found)
    return found


def _search(units: Units) -> list[Candidate]:
    """Return candidates one after the other, each among the units that those before leave."""
    search = CandidateSearch(units)
    covered = np.zeros(len(units), dtype=bool)
    found: list[Candidate] = []
    while len(found) < _TESTED and (one := search.best(covered)) is not None:
        found.append(one)
        covered |= one.member
    return found


def _p_value(units: Units, candidate: Candidate) -> float:
    """Return the largest p-value that it is worse than the rest of each of its parents."""
    member = candidate.member
    return max(_fisher(units, member, parent & ~member) for parent in candidate.parents)


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


def _worse(units: Units, member: Flags) -> bool:
    tested = ~units.searched
    inside, outside = units.right[member & tested], units.right[~member & tested]
    return bool(outside.mean() - inside.mean() >= _LEAST)


def _more(units: Units, member: Flags, covered: Flags) -> bool:
    """Say whether what a slice has beyond those before it is worse than the rest."""
    rest, wrong = member & ~covered, ~units.right
    if 2 * (rest & wrong).sum() < (member & wrong).sum():
        return False
    return _fisher(units, rest, ~member & ~covered) < _RESIDUAL


def _described(units: Units, candidate: Candidate, p: float, name: Names) -> dict[str, Any]:
    member, tested = candidate.member, ~units.searched
    classes = [one.rule["class"] for one in candidate.conditions if one.kind == "class"]
    clusters = [one for one in candidate.conditions if one.kind == "cluster"]
    scope = units.classes == classes[0] if classes else np.ones(len(units), dtype=bool)
    inside, outside = (_accuracy(units.right[part & tested]) for part in (member, ~member))
    compared = _accuracy(units.right[scope & ~member & tested])
    phrase = cluster_phrase(units, member, scope) if clusters else None
    gain = float(member.mean()) * max(0.0, (compared["value"] or 0.0) - (inside["value"] or 0.0))
    at = np.flatnonzero(member & ~units.right)
    clear = at[np.argsort(-candidate.conditions[0].typical[at], kind="stable")]
    return {
        "name": slice_name(candidate.conditions, units.noun, name, phrase),
        "kind": candidate.conditions[0].kind,
        "rules": [one.rule for one in candidate.conditions],
        "class": classes[0] if classes else None,
        "units": units.noun,
        "count": int(member.sum()),
        "errors": int((member & ~units.right).sum()),
        "inside": inside,
        "outside": outside,
        "p": p,
        "gain": gain,
        "fix": next((one.fix for one in candidate.conditions if one.fix), ""),
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
    for name in ("described", "members", "errors"):
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
