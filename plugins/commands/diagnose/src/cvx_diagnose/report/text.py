"""A run in a few lines, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cvx_diagnose.run.rows import OK

_FEW = 5


def describe_error(summary: Mapping[str, Any]) -> list[str]:
    """Return what a summary says, a line for each thing."""
    counts, right = summary["counts"], summary["right"]
    answered = f"{counts[OK]:,} of {summary['inputs']:,} inputs answered"
    failed = [f"{count:,} {status}" for status, count in counts.items() if count and status != OK]
    lines = [answered + (": " + ", ".join(failed) if failed else "")]
    if right["of"]:
        what = "right" if summary["task"] == "classification" else "without an error"
        lines.append(
            f"{100 * right['value']:.1f} % {what} "
            f"({100 * right['low']:.1f} to {100 * right['high']:.1f} %, {right['of']:,} labelled)"
        )
    if right["of"] and right["unanswered"]:
        lines.append(
            f"{100 * right['with_unanswered']:.1f} % if the {right['unanswered']:,} that the model "
            "failed on count as wrong"
        )
    name = _names(summary["classes"])
    if summary.get("calibration", {}).get("ece") is not None:
        lines.append(f"calibration error {100 * summary['calibration']['ece']:.1f} %")
    for one in summary.get("confusions", [])[:_FEW]:
        times = "once" if one["count"] == 1 else f"{one['count']:,} times"
        share = f"{times}, {100 * one['share']:.0f} % of them"
        lines.append(f"{name(one['true'])} taken for {name(one['predicted'])}: {share}")
    if "iou" in summary and summary["iou"]["mean"] is not None:
        lines.append(f"mean IoU {100 * summary['iou']['mean']:.1f} %")
        worst = sorted(summary["iou"]["classes"], key=lambda one: one["iou"])[:_FEW]
        lines += [f"{name(one['class'])}: IoU {100 * one['iou']:.1f} %" for one in worst]
    if "tide" in summary:
        table = summary["tide"]
        lines.append(
            f"AP at IoU 0.5 {table['ap']:.1f}, of boxes from a score of {table['reported_from']:g}"
        )
        costly = sorted(table["gains"].items(), key=lambda pair: -pair[1])
        lines += [
            f"{kind}: {table['counts'][kind]:,} errors cost {gain:.1f} AP"
            for kind, gain in costly
            if table["counts"][kind]
        ]
    tests = summary["interventions"]
    if tests.get("tested"):
        lines.append(
            f"{tests['tested']:,} {'error was' if tests['tested'] == 1 else 'errors were'} "
            "tested by removing regions: "
            f"{tests.get('verified', 0)} verified, {tests.get('partly', 0)} partly, "
            f"{tests.get('fixed', 0)} became right"
        )
    compared = summary.get("compared")
    if compared is not None:
        lines.append(
            f"since {compared['with']}: {compared['fixed']:,} fixed, {compared['broken']:,} broken "
            f"(McNemar p = {compared['p']:.2g})"
            + (f"; {compared['relabelled']:,} relabelled" if compared["relabelled"] else "")
        )
    lines += [
        f"{one['name']} was not tried: {one['note']}"
        for one in summary.get("fixes", [])
        if not one["tried"]
    ]
    shortcuts = summary.get("shortcuts")
    if shortcuts is not None and shortcuts["note"]:
        lines.append(f"no shortcuts were looked for: {shortcuts['note']}")
    advice = summary.get("advice", [])
    if advice:
        lines.append("what to fix first:")
        lines += [f"  {k}. {one['text']}" for k, one in enumerate(advice[:_FEW], 1)]
    return lines


def _names(classes: list[str] | None) -> Any:
    return lambda index: str(index) if classes is None else classes[index]
