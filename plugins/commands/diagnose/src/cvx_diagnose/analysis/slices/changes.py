"""Changes of slices between two runs, paired by input."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_diagnose.analysis.error_groups.names import Names, class_namer
from cvx_diagnose.analysis.metrics.class_changes import Part, paired_change, renumber
from cvx_diagnose.analysis.slices.search import slices_of
from cvx_diagnose.analysis.slices.units import (
    Columns,
    Units,
    read_units,
    unit_keys,
    unit_results,
)
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import MODEL_FAILED, Row

Flags = npt.NDArray[np.bool_]


def slice_changes(
    run: Run, before: Run, pairs: Sequence[tuple[Row, Row]], columns: Columns | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Return how the accuracy in each slice changed, and how many slices were tried.

    Parameters
    ----------
    run, before
        The newer and the older run, of one task.
    pairs
        The older and the newer row of each input, with ``id`` and ``status``.
    columns
        Further columns of the data, by the ids of the newer run.

    Returns
    -------
    list of dict
        As of `changes_of`. Inputs whose label the older run suspects are left out.
    """
    earlier = before.summary or {}
    if earlier.get("withheld"):
        return [], 0
    number = {old["id"]: new["id"] for old, new in pairs}
    known = {old: (columns or {})[new] for old, new in number.items() if new in (columns or {})}
    doubted = [one["id"] for one in earlier.get("label_issues", {"listed": ()})["listed"]]
    units = read_units(before, known, doubted)
    if units is None:
        return [], 0
    results = unit_results(run)
    failed = {old["id"] for old, new in pairs if new["status"] in MODEL_FAILED}
    own = renumber(run, before)
    units.classes = np.array([own(c) if c >= 0 else c for c in units.classes.tolist()], dtype=int)
    classes = units.classes if units.noun != "images" else np.full(len(units), -1)
    right = np.zeros(len(units), dtype=bool)
    paired = np.zeros(len(units), dtype=bool)
    for k, (image, c, rank) in enumerate(unit_keys(units.ids.tolist(), classes.tolist())):
        found = False if image in failed else results.get((number.get(image, -1), c, rank))
        paired[k], right[k] = found is not None, bool(found)
    return changes_of(units, right, paired, class_namer(run.plan.classes))


def changes_of(
    units: Units, right: Flags, paired: Flags, name: Names
) -> tuple[list[dict[str, Any]], int]:
    """Return how the accuracy in each slice changed, and how many slices were tried.

    The largest loss comes first. Slices are those of the older results, and sets of units that
    broke more often than others. Each is measured on the half that it was not found on.

    Parameters
    ----------
    units
        Of the older run.
    right, paired
        (n,), the newer results, and the units that have both.
    name
        From a class index to its name.

    Returns
    -------
    list of dict
        ``name``, ``kind``, ``rules``, ``class`` and ``units`` as of slices, and what
        `paired_change` returns, with images as inputs. A slice that is all of a class is left out:
        classes are compared themselves.
    """
    kept = units.with_right(~paired | ~units.right | right)
    every = [slices_of(units, name), slices_of(kept, name)]
    changes: dict[str, dict[str, Any]] = {}
    for slices in every:
        for one, inside in zip(slices.described, slices.held_out, strict=True):
            at = inside & paired
            if at.any() and not (one["kind"] == "class" and len(one["rules"]) == 1):
                labels = {key: one[key] for key in ("name", "kind", "rules", "class", "units")}
                changes.setdefault(one["name"], labels | _change(units, right, at))
    return sorted(changes.values(), key=lambda one: float(one["change"])), sum(
        one.tested for one in every
    )


def _change(units: Units, right: Flags, at: Flags) -> dict[str, Any]:
    """Return the change among units; those of one image are one input."""
    old: dict[int, Part] = defaultdict(lambda: (0.0, 0.0))
    new = old.copy()
    for k in np.flatnonzero(at):
        image = int(units.ids[k])
        for parts, result in ((old, units.right), (new, right)):
            parts[image] = (parts[image][0] + float(result[k]), parts[image][1] + 1.0)
    return paired_change([*old.values()], [*new.values()])
