"""A report in a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from cvx_why.report.data import RegionReport, ReportData

UNSEEN = 0.2
"""Share of a photograph that was cut off, from which on a report says so."""
MEANING = {
    "verified": "Under every fill half of the error or more is gone, or the answer is right.",
    "partly": "Under most fills a good part of the error is gone.",
    "not verified": "The fills disagree, or little changes: it is not blamed.",
}
"""What each verdict says."""


def describe_error(report: ReportData) -> str:
    """Return what was found out about an error, line by line."""
    if report.type == "right":
        said = report.predicted.text if report.predicted else "The answer"
        return f"{said}: right. There is no error to explain."
    said = report.predicted.text if report.predicted else "nothing"
    truth = f", truly {report.true.text}" if report.true else ""
    # A rival that did not come first is asked about, and is no error.
    kind = report.type if report.margin > 0 else "asked about"
    lines = [f"{kind}: {said}{truth}; margin {report.margin:.2f}, loss {report.loss:.2f} nats"]
    if report.blame.target.note:
        lines.append(report.blame.target.note)
    lines += [f"{k}. {_region(one)}" for k, one in enumerate(report.regions, 1)]
    if report.unseen >= UNSEEN:
        lines.append(f"{100 * report.unseen:.0f} % of the photograph was cut off, unseen.")
    if not report.blamed:
        lines.append(
            "No region is blamed: without none of the parts that were removed does the margin fall "
            f"by enough to stand out (elsewhere by {report.usual:.2f} logits)."
        )
    if report.fix is not None:
        lines.append(
            f"Right without {100 * report.fix.share:.1f} % of the pixels, within "
            f"{_box(report.fix.box)} ({report.fix.fill}): {report.fix.note}"
        )
    elif report.margin > 0:
        lines.append("No removal that was tried makes the answer right.")
    if report.profile:
        lines.append(depth(report.profile))
    if report.additions is not None:
        lines.append(_added(report.additions))
    lines.append(f"{report.passes} images run, of {report.budget} allowed.")
    return "\n".join(lines)


def conclusion(report: ReportData) -> list[str]:
    """Return what a person should take along, in one to three sentences."""
    found = []
    for number, one in enumerate(report.regions, 1):
        if one.verdict == "not verified":
            continue
        gone = sorted(-100 * r.change / abs(report.margin) for r in one.removals.values())
        if gone[0] >= 100:
            extent = "the wrong answer falls behind the true one under every fill"
        elif one.verdict == "verified":
            extent = f"{gone[0]:.0f} % of the margin or more is gone under every fill"
        else:
            extent = f"{median(gone):.0f} % of the margin is gone in the middle of the fills"
        found.append(f"Without region {number} ({place(one.mask)}) {extent}.")
    if not found:
        found.append("No single place is to blame: no removal stands out from removing others.")
    if report.fix is not None:
        share = 100 * report.fix.share
        found.append(
            f"It becomes right without {share:.1f} % of the pixels ({place(report.fix.mask)}): "
            f"{report.fix.note}"
        )
    elif report.margin > 0:
        found.append("No removal that was tried makes the answer right.")
    if report.unseen >= UNSEEN:
        found.append(
            f"{100 * report.unseen:.0f} % of the photograph was cut off before the network saw it; "
            "what is there can't be blamed, and may be what it lacks."
        )
    return found


def depth(profile: Sequence[Mapping[str, Any]]) -> str:
    """Return at which layer of a profile the wrong class overtakes the true one, in words."""
    ahead = None
    for row in reversed(profile):
        if row["cells"] <= 0:
            break
        ahead = row["layer"]
    if ahead is None:
        return "At no layer do the cells speak for the wrong answer: constants behind them do."
    if ahead == profile[0]["layer"]:
        return "The wrong answer is ahead at every layer that was looked at."
    return f"The wrong answer is ahead from layer {ahead} on."


def place(mask: npt.NDArray[np.bool_]) -> str:
    """Return where a region lies, as in ``upper left``."""
    rows, columns = np.nonzero(mask)
    down = int(3 * rows.mean() / mask.shape[0])
    right = int(3 * columns.mean() / mask.shape[1])
    words = (("upper", "", "lower")[down], ("left", "", "right")[right])
    return " ".join(word for word in words if word) or "middle"


def _region(one: RegionReport) -> str:
    measured = ", ".join(
        f"{name} {removal.change:+.2f}{' (right)' if removal.right else ''}"
        for name, removal in one.removals.items()
    )
    return (
        f"{_box(one.box)}, {100 * one.share:.1f} % of the pixels: {one.verdict}. "
        f"Without it the margin changes by {measured}; predicted {one.predicted:+.2f}."
    )


def _added(found: Mapping[str, Any]) -> str:
    rows, columns = found["grid"]
    where = f"the {rows * columns} cells of {found['layer']}"
    if found["cells"] is None:
        return f"Not right even with all of {where} from the reference."
    return f"Right with {len(found['cells'])} of {where} from the reference."


def _box(box: tuple[float, float, float, float]) -> str:
    return "box " + ",".join(f"{side:.0f}" for side in box)
