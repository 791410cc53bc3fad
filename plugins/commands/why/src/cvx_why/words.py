"""A report in a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvx_why.report import ErrorReport, RegionReport


def told(report: ErrorReport) -> str:
    """Return what was found out about an error, line by line."""
    if report.type == "right":
        said = report.predicted.text if report.predicted else "The answer"
        return f"{said}: right. There is no error to explain."
    said = report.predicted.text if report.predicted else "nothing"
    truth = f", truly {report.true.text}" if report.true else ""
    # A rival that did not come first is asked about, and is no error.
    kind = report.type if report.margin > 0 else "asked about"
    lines = [f"{kind}: {said}{truth}; margin {report.margin:.2f}, loss {report.loss:.2f} nats"]
    lines += [f"{k}. {_region(one)}" for k, one in enumerate(report.regions, 1)]
    if not report.blamed:
        lines.append(
            "No region is blamed: without none of the parts that were removed does the margin fall "
            f"by enough to stand out (elsewhere by {report.usual:.2f} logits)."
        )
    if report.fix is not None:
        lines.append(
            f"Right without {100 * report.fix.share:.1f} % of the pixels, {_box(report.fix.box)} "
            f"({report.fix.fill})."
        )
    elif report.margin > 0:
        lines.append("No removal that was tried makes the answer right.")
    if report.additions is not None:
        lines.append(_added(report.additions))
    lines.append(f"{report.passes} images run, of {report.budget} allowed.")
    return "\n".join(lines)


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
