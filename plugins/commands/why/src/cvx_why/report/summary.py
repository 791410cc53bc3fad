"""Summary of a report: its text, its conclusions, and the names of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core import printable
from cvx_why.report.data import ReportData
from cvx_why.search.regions import FillReport, RegionReport

CROPPED = 0.2
"""Share of an image that was cropped, from which on a report mentions it."""
MEANING = {
    "verified": "Every fill halves the margin or corrects the prediction.",
    "partly": "Most fills reduce the margin by a fifth or more.",
    "not verified": "The fills disagree or have little effect. The region is not a cause.",
}
"""Explanation of each verdict."""


def summarize(report: ReportData) -> str:
    """Return the report as a few lines of text."""
    if report.type == "correct":
        name = report.predicted.text if report.predicted else "The prediction"
        return printable(f"{name}: correct. No mistake to explain.")
    unit = report.contrast.unit
    predicted = report.predicted.text if report.predicted else "nothing"
    truth = f", ground truth {report.true.text}" if report.true else ""
    classes = f": {predicted}{truth}" if report.predicted or report.true else ""
    # A rival with a lower score than the true class is no mistake.
    kind = report.type if report.margin > 0 else "rival"
    loss = f"{report.loss:.2f}" + (" nats" if unit == "logits" else "")
    lines = [f"{kind}{classes}; margin {report.margin:.2f}, loss {loss}"]
    if report.blame.target.note:
        lines.append(report.blame.target.note)
    lines += [one.text for one in report.preparations]
    lines += [f"{k}. {_region(one, report.margin)}" for k, one in enumerate(report.regions, 1)]
    if report.cropped >= CROPPED:
        lines.append(_cropped(report))
    if report.spread is not None:
        lines.append(_spread(report.spread))
    elif not report.blamed:
        lines.append(
            "No region found: no perturbation changes the margin clearly more than control regions "
            f"do ({report.control_change:.2f} {unit}, median)."
        )
    if report.fix is not None:
        lines.append(
            f"Filling {100 * report.fix.share:.1f} % of the pixels ({report.fix.fill}, "
            f"{_box(report.fix.box)}) corrects the prediction: {report.fix.note}"
        )
    elif report.margin > 0:
        lines.append("No tested perturbation corrects the prediction.")
    if report.profile:
        lines.append(describe_profile(report.profile))
    if report.counterfactual is not None:
        lines.append(_counterfactual(report.counterfactual))
    lines.append(f"{report.passes} of {report.budget} forward passes used.")
    return "\n".join(map(printable, lines))


def conclusions(report: ReportData) -> list[str]:
    """Return the main findings, the cheapest to mend first."""
    found = [one.text for one in report.preparations]
    before = len(found)
    for number, one in enumerate(report.regions, 1):
        if one.verdict == "not verified":
            continue
        decrease = sorted(-100 * r.change / abs(report.margin) for r in one.fills.values())
        if decrease[0] >= 100:
            effect = "makes the true class outscore the wrong one under every fill"
        elif one.verdict == "verified":
            effect = f"reduces the margin by {decrease[0]:.0f} % or more under every fill"
        else:
            effect = f"reduces the margin by {median(decrease):.0f} % (median of the fills)"
        found.append(f"Perturbing region {number} ({position(one.mask)}) {effect}.")
    if report.spread is not None:
        found.append(_spread(report.spread))
    elif len(found) == before:
        found.append(
            "No region found: no perturbation changes the margin clearly more than control regions "
            "do."
        )
    if report.fix is not None:
        found.append(
            f"Filling {100 * report.fix.share:.1f} % of the pixels ({position(report.fix.mask)}) "
            f"corrects the prediction: {report.fix.note}"
        )
    elif report.margin > 0:
        found.append("No tested perturbation corrects the prediction.")
    if report.cropped >= CROPPED:
        missing = "" if report.preparations else " The decisive content may have been cropped."
        found.append(_cropped(report) + missing)
    return found


def describe_profile(profile: Sequence[Mapping[str, Any]]) -> str:
    """Return the layer of a profile at which the wrong class overtakes the true one, as text."""
    ahead = None
    for row in reversed(profile):
        if row["cells"] <= 0:
            break
        ahead = row["layer"]
    if ahead is None:
        return "The positions support the wrong class at no layer; bias terms of later layers do."
    if ahead == profile[0]["layer"]:
        return "The wrong class leads at every layer of the profile."
    return f"The wrong class leads from layer {ahead} on."


def position(mask: npt.NDArray[np.bool_]) -> str:
    """Return the position of a region in words, as in ``upper left``."""
    rows, columns = np.nonzero(mask)
    down = int(3 * rows.mean() / mask.shape[0])
    right = int(3 * columns.mean() / mask.shape[1])
    words = (("upper", "", "lower")[down], ("left", "", "right")[right])
    return " ".join(word for word in words if word) or "center"


def _spread(share: float) -> str:
    return (
        f"The cause is spread over the image: filling {100 * share:.0f} % of the pixels halves the "
        "margin, and no smaller tested region does."
    )


def _cropped(report: ReportData) -> str:
    return f"{100 * report.cropped:.0f} % of the image was cropped before the network saw it."


def _region(one: RegionReport, margin: float) -> str:
    measured = ", ".join(
        f"{name} {fill.change:+.2f}{_outcome(fill, margin)}" for name, fill in one.fills.items()
    )
    return (
        f"{_box(one.box)}, {100 * one.share:.1f} % of the pixels: {one.verdict}. "
        f"Change of the margin: {measured}. {estimate(one)}"
    )


def _outcome(fill: FillReport, margin: float) -> str:
    if fill.correct:
        return " (correct)"
    # The true class leads the wrong one, and yet the prediction is not correct.
    third = fill.note and margin > 0 > margin + fill.change
    return f" (third class predicted: {fill.note})" if third else ""


def estimate(one: RegionReport) -> str:
    """Return the change that the gradients predict for a region, and whether it has the sign."""
    text = f"Estimate from the gradients: {one.predicted_change:+.2f}"
    if one.predicted_change * one.change < 0:
        text += " (other sign: the effect is not linear)"
    return f"{text}."


def _counterfactual(found: Mapping[str, Any]) -> str:
    rows, columns = found["grid"]
    where = f"the {rows * columns} positions of {found['layer']}"
    if found["positions"] is None:
        return f"Not correct even with all of {where} from the reference image."
    return f"Correct with {len(found['positions'])} of {where} from the reference image."


def _box(box: tuple[float, float, float, float]) -> str:
    return "box " + ",".join(f"{side:.0f}" for side in box)
