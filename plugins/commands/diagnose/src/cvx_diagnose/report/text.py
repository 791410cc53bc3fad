"""Summary of a run as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cvx_core import printable
from cvx_diagnose.analysis.error_groups.names import class_namer
from cvx_diagnose.analysis.slices.names import slice_sentence
from cvx_diagnose.run.rows import OK

_FEW = 5


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return a summary, one line per result."""
    counts, accuracy = summary["counts"], summary["accuracy"]
    predicted = f"{counts[OK]:,} of {summary['inputs']:,} inputs predicted"
    failed = [f"{count:,} {status}" for status, count in counts.items() if count and status != OK]
    lines = [predicted + (": " + ", ".join(failed) if failed else "")]
    lines += [f"  {one['path']}: {one['message']}" for one in summary["failed_inputs"][:_FEW]]
    left = len(summary["failed_inputs"]) - _FEW
    if left > 0:
        lines.append(f"  and {sum(counts.values()) - counts[OK] - _FEW:,} more, in summary.json")
    faults = summary["data_faults"]
    if faults["count"]:
        lines.append(f"{faults['count']:,} faults in the data set that concern no input:")
        lines += [f"  {one}" for one in faults["listed"][:_FEW]]
    if accuracy["total"]:
        what = "correct" if "confusions" in summary else "without a mistake"
        lines.append(
            f"{100 * accuracy['value']:.1f} % {what} (95 % interval {100 * accuracy['low']:.1f} to "
            f"{100 * accuracy['high']:.1f} %, {accuracy['total']:,} labeled)"
        )
    if accuracy["total"] and accuracy["failed"]:
        lines.append(
            f"{100 * accuracy['value_with_failed']:.1f} % if the {accuracy['failed']:,} inputs on "
            "which the model failed count as wrong"
        )
    unmapped = summary["without_map"]
    if unmapped["count"]:
        first = unmapped["reasons"][0]
        lines.append(
            f"{unmapped['count']:,} of the inputs with an error have no map; they count as "
            f"predicted. {first['count']:,}: {first['reason']}"
        )
    name = class_namer(summary["classes"])
    if summary.get("calibration", {}).get("ece") is not None:
        lines.append(f"expected calibration error {100 * summary['calibration']['ece']:.1f} %")
    for one in summary.get("confusions", [])[:_FEW]:
        images = "1 image" if one["count"] == 1 else f"{one['count']:,} images"
        share = f"{images}, {100 * one['share']:.0f} % of the images of that class"
        lines.append(f"{name(one['true'])} misclassified as {name(one['predicted'])}: {share}")
    if "iou" in summary and summary["iou"]["mean"] is not None:
        lines.append(f"mean IoU {100 * summary['iou']['mean']:.1f} %")
        worst = sorted(summary["iou"]["classes"], key=lambda one: one["iou"])[:_FEW]
        lines += [f"{name(one['class'])}: IoU {100 * one['iou']:.1f} %" for one in worst]
    if "tide" in summary:
        table = summary["tide"]
        if table["ap"] is None:
            lines.append("AP at IoU 0.5 is unknown: no labeled object")
        else:
            lines.append(
                f"AP at IoU 0.5 {table['ap']:.1f}, of boxes with a score of at least "
                f"{table['reported_from']:g}; {table['ap_above_threshold']:.1f} of those above "
                f"the model's threshold of {table['threshold']:g}, whose errors are:"
            )
        costly = sorted(table["gains"].items(), key=lambda pair: -pair[1])
        lines += [
            f"{kind}: {_mistakes(table['counts'][kind])}, -{gain:.1f} AP"
            for kind, gain in costly
            if table["counts"][kind]
        ]
    tests = summary["region_tests"]
    if tests.get("tested"):
        lines.append(
            f"regions tested for {_mistakes(tests['tested'])}: "
            f"{tests.get('verified', 0)} verified, {tests.get('partly', 0)} partly verified, "
            f"{tests.get('corrected', 0)} corrected"
        )
    changes = summary.get("comparison")
    if changes is not None:
        lines.append(
            f"since {changes['with']}: {changes['fixed']:,} fixed, {changes['broken']:,} broken "
            f"(McNemar p = {changes['p']:.2g})"
            + (f"; {changes['relabeled']:,} relabeled" if changes["relabeled"] else "")
        )
        worst = changes.get("worst_group")
        if worst is not None:
            lines.append(
                f"worst group: {worst.get('name') or name(worst['class'])}, {changes['measure']} "
                f"{100 * worst['after']:.1f} % (was {100 * worst['before']:.1f} %)"
            )
    lines += [
        f"{one['name']} was not tried: {one['note']}"
        for one in summary.get("fixes", [])
        if not one["tried"]
    ]
    for one in summary.get("slices", {"found": ()})["found"][:_FEW]:
        lines.append(f"slice: {slice_sentence(one)}")
    shortcuts = summary.get("shortcuts")
    if shortcuts is not None and shortcuts["note"]:
        lines.append(f"shortcuts were not searched: {shortcuts['note']}")
    advice = summary.get("advice", [])
    if advice:
        lines.append("what to fix first:")
        lines += [f"  {k}. {one['text']}" for k, one in enumerate(advice[:_FEW], 1)]
    return [("  " if line.startswith("  ") else "") + printable(line) for line in lines]


def regression_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return what got worse than in the run that a summary is compared with, a line each."""
    changes, name = summary.get("comparison"), class_namer(summary["classes"])
    if changes is None or not changes.get("regression"):
        return []
    told = {one["class"]: one for one in changes["classes"]}
    worse = [(f"{changes['measure']} of {name(c)}", told[c]) for c in changes["regressed"]]
    worse += [(f"accuracy in {one['name']}", one) for one in changes["slices"] if one["regressed"]]
    if changes["high"] < 0:
        share = {key: changes[key] / max(1, changes["common"]) for key in ("before", "after")}
        what = "accuracy" if "confusions" in summary else "share of inputs without a mistake"
        worse.insert(0, (what, {**changes, **share}))
    return [
        f"worse than in {changes['with']}: {what} went from {100 * one['before']:.1f} % to "
        f"{100 * one['after']:.1f} % (95 % interval of the change {100 * one['low']:.1f} to "
        f"{100 * one['high']:.1f} points, p = {one['p']:.2g})"
        for what, one in worse
    ]


def limit_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the limits of a summary that are not met, a line each."""
    return [
        f"{one['measure']} is unknown, and must be at least {one['limit']:g}"
        if one["value"] is None
        else f"{one['measure']} is {one['value']:.4g}, and must be at least {one['limit']:g}"
        for one in summary.get("limits", [])
        if not one["met"]
    ]


def _mistakes(count: int) -> str:
    return "1 mistake" if count == 1 else f"{count:,} mistakes"
