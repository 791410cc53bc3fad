"""Fixes by input: a row for each input that needs something, with its evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cvx_diagnose.analysis.advice import verified_shortcuts
from cvx_diagnose.analysis.error_groups.groups import ErrorGroups
from cvx_diagnose.analysis.error_groups.names import class_namer
from cvx_diagnose.analysis.label_issues.search import find_label_conflicts
from cvx_diagnose.analysis.slices.names import slice_sentence
from cvx_diagnose.analysis.slices.search import Slices, slices_of_each
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import NO_MAP, OK, Row

REPAIR, RELABEL, DUPLICATE = "repair file", "relabel", "remove duplicate"
MASK, AUGMENT, COLLECT, REVIEW = "mask", "augment", "collect", "review"
KINDS = (REPAIR, RELABEL, DUPLICATE, MASK, AUGMENT, COLLECT, REVIEW)
"""What is to be done about an input, in the order of the rows."""

_COLUMNS = ("id", "path", "status", "message", "sha256", "correct", "errors", "regions", "fix")


def find_fix_rows(
    run: Run,
    found: Mapping[str, Any],
    every_issue: Sequence[Mapping[str, Any]],
    error_groups: ErrorGroups,
    slices: Slices,
) -> list[Row]:
    """Return what each input needs, by kind and strength.

    An input has one row or none; an image with several label issues of boxes or regions has one
    for each.

    Parameters
    ----------
    run
        Finished.
    found
        Findings of `cvx_diagnose.analysis.findings.collect_findings`.
    every_issue, error_groups, slices
        Label issues, groups of errors and slices of the run.

    Returns
    -------
    list of dict
        ``id`` and ``path``; ``what``, one of `KINDS`; ``proposed``, the name of a class, or None;
        ``box`` (left, top, right, bottom) in pixels of the image, or None; ``slices``, names of the
        slices that it is in; ``suspect``, the probability that its label is wrong, or None;
        ``shortcut``, the name of a verified shortcut, or None; ``group``, the number of its group
        of errors, or None; ``strength`` in [0, 1]; ``evidence``, a sentence.
    """
    name = class_namer(run.plan.classes)
    misread = {c for one in found["set_up"] for c in one.get("classes", ())}
    issues: dict[int, list[Mapping[str, Any]]] = {}
    for one in every_issue:
        if one["label"] not in misread:
            issues.setdefault(one["id"], []).append(one)
    conflicts = _conflicts(run)
    shortcuts = {k: one for one in verified_shortcuts(found) for k in one["groups"]}
    of_slices = slices_of_each(slices)
    group_of = dict(zip(error_groups.ids.tolist(), error_groups.groups.tolist(), strict=True))
    described = {one["number"]: one for one in found["error_groups"]}
    first_of: dict[str, str] = {}
    rows: list[Row] = []
    for row in _rows(run):
        number, file = row["id"], row["sha256"]
        twin = first_of.setdefault(file, row["path"]) if file else row["path"]
        numbers = of_slices.get(number, [])
        group = group_of.get(number, -1)
        shortcut = shortcuts.get(group)
        common = {
            "id": number,
            "path": row["path"],
            "proposed": None,
            "box": None,
            "slices": [slices.described[k]["name"] for k in numbers],
            "suspect": None,
            "shortcut": None if shortcut is None else shortcut["name"],
            "group": group if group >= 0 else None,
        }
        if row["status"] != OK:
            needs: list[Row] = [{"what": REPAIR, "strength": 1.0, "evidence": row["message"]}]
        elif number in issues:
            needs = [_relabeled(one, name) for one in issues[number]]
        elif number in conflicts:
            evidence = f"The same file has another label: {', '.join(conflicts[number])}."
            needs = [{"what": REVIEW, "strength": 1.0, "evidence": evidence}]
        elif twin != row["path"]:
            needs = [{"what": DUPLICATE, "strength": 1.0, "evidence": f"The same file as {twin}."}]
        elif row["correct"] is False and not found["withheld"]:
            known = _for_error(row, shortcut, [slices.described[k] for k in numbers])
            needs = [known or _for_rest(row, described.get(group))]
        else:
            continue
        rows += [{**common, **need} for need in needs]
    return sorted(rows, key=lambda one: (KINDS.index(one["what"]), -one["strength"], one["id"]))


def _relabeled(issue: Mapping[str, Any], name: Callable[[int], str]) -> Row:
    """Return what a label issue needs: of the image, or of one box or region in it."""
    label, suggested = (
        None if issue[key] is None else name(issue[key]) for key in ("label", "suggested")
    )
    moved = issue.get("proposed_box")
    if moved is not None:
        old, new = (", ".join(f"{side:.0f}" for side in box) for box in (issue["box"], moved))
        evidence = (
            f"The annotation is {issue['kind']}: {label} labeled at {old}, predicted at {new}."
        )
    elif "kind" in issue:
        evidence = f"The annotation is {issue['kind']}: labeled {label or 'nothing'}"
        evidence += f", predicted {suggested}." if suggested else "."
    else:
        evidence = (
            f"The label is {label}; heads trained on other images predict {suggested} "
            f"(probability {issue['probability']:.2f})."
        )
    return {
        "what": RELABEL,
        "proposed": suggested,
        "box": moved or issue.get("box"),
        "suspect": issue["doubt"],
        "strength": issue["doubt"],
        "evidence": evidence,
    }


def _conflicts(run: Run) -> dict[int, list[str]]:
    """Return for each input the paths of the same file with another label, if there are any."""
    return {
        number: [
            path for path, other in zip(one["paths"], one["labels"], strict=True) if other != label
        ]
        for one in find_label_conflicts(run)
        for number, label in zip(one["ids"], one["labels"], strict=True)
    }


def _rows(run: Run) -> Iterator[Row]:
    for block in run.blocks(_COLUMNS):
        yield from block.to_pylist()


def _for_error(
    row: Row, shortcut: Mapping[str, Any] | None, slices: list[dict[str, Any]]
) -> Row | None:
    """Return what an error needs whose cause is known."""
    verified = [one for one in row["regions"] or () if one["verdict"] == "verified"]
    box = None
    if row["fix"] is not None:
        box = row["fix"]["box"]
    elif verified:
        box = verified[0]["box"]
    if shortcut is not None:
        effect = shortcut["transplants"].get("effect", 0.0)
        evidence = f"Shortcut: {shortcut['name']}. Pasted, it turns {100 * effect:.0f} % of images."
        return {"what": MASK, "box": box, "strength": effect, "evidence": evidence}
    if box is not None:
        text = "Perturbing this region removes the error."
        if row["fix"] is None:
            text = "Perturbing this region removes most of the error."
        return {"what": MASK, "box": box, "strength": 1.0, "evidence": text}
    if slices:
        one = slices[0]
        gap = (one["outside"]["value"] or 0.0) - (one["inside"]["value"] or 0.0)
        what = AUGMENT if one["fix"].startswith(AUGMENT) else COLLECT
        evidence = f"Slice: {slice_sentence(one)}."
        return {"what": what, "strength": max(0.0, gap), "evidence": evidence}
    return None


def _for_rest(row: Row, group: Mapping[str, Any] | None) -> Row:
    """Return what an error needs that only its group tells something about."""
    worst = row["errors"][0]
    message = row["message"] or ""
    unmapped = f" {message}" if message.startswith(NO_MAP) else ""
    box = worst["box"]
    if group is None or group["mixed"]:
        evidence = f"No other errors like it.{unmapped}"
        return {"what": REVIEW, "box": box, "strength": 0.0, "evidence": evidence}
    evidence = f"Group of {group['count']:,} errors: {group['name']}.{unmapped}"
    strength = float(np.clip(group["cost"], 0, 1))
    return {"what": COLLECT, "box": box, "strength": strength, "evidence": evidence}
