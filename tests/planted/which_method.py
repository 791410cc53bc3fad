"""The page that compares all explainers on planted truth: docs/explanation/which-method.md."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, median

from planted.networks import KEPT

import cvx_core as cvx
from cvx_core.plugins.discovery import registry

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "which-method.md"
WITHOUT_TARGET = ("location-attention", "energy", "eigen-cam")
COLUMNS = (
    ("forward", "images forward", ("patch",), 0),
    ("backward", "gradients", ("patch",), 0),
    ("seconds", "seconds", ("efficientnet-lite0",), 2),
    ("peak", "cause: peak", ("patch",), 2),
    ("share", "cause: share", ("patch",), 2),
    ("rank accuracy", "cause: rank accuracy", ("patch",), 2),
    ("false alarm", "cause: false alarm", ("patch",), 2),
    ("peak", "outlined object: peak", ("outlined objects, predicted class",), 2),
    ("peak", "box: peak", ("boxes",), 2),
    ("share", "box: share", ("boxes",), 2),
)
"""Measure, heading, beginnings or ends of the kinds of truth, and decimals."""
Rows = dict[str, list[dict[str, float]]]


def explainers() -> list[str]:
    """Return the explainers that have a target."""
    found = []
    for offer in registry().offers("explainer"):
        try:
            explainer = cvx.get_explainer(offer.component.name)
        except cvx.OptionError:  # of one position
            continue
        if explainer.class_specific:
            found.append(offer.component.name)
    return found


def keep(title: str, rows: Rows, seed: int) -> None:
    """Write the measures of a kind of truth to a file."""
    KEPT.mkdir(parents=True, exist_ok=True)
    file = KEPT / f"which-{title.replace(', ', '_').replace(' ', '-')}.json"
    file.write_text(json.dumps({"title": title, "seed": seed, "rows": rows}, indent=1))


def write() -> None:
    """Put the table of all that was measured into the page."""
    kept = [json.loads(file.read_text()) for file in sorted(KEPT.glob("which-*.json"))]
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end of the table -->")
    table = _table({one["title"]: one["rows"] for one in kept})
    PAGE.write_text(before + begin + table + end + after, encoding="utf-8")


def _table(measured: dict[str, Rows]) -> str:
    methods = runpy.run_path(str(ROOT / "tests" / "methods" / "__main__.py"))
    verdicts = methods["sanity_verdicts"]()
    head = ["method", *(heading for _, heading, _, _ in COLUMNS), "sanity"]
    lines = [_line(head), _line(["---"] * len(head))]
    for name in explainers():
        cells = [_cell(measured, name, *column) for column in COLUMNS]
        lines.append(_line([f"`{name}`", *cells, verdicts.get(name, "")]))
    return "\n".join(lines) + "\n"


def _cell(
    measured: dict[str, Rows], name: str, key: str, _heading: str, kinds: Iterable[str], digits: int
) -> str:
    means = []
    for title, rows in measured.items():
        if any(title.startswith(kind) or title.endswith(kind) for kind in kinds):
            found = [one[key] for one in rows.get(name, ())]
            if found:
                means.append(median(found) if key == "seconds" else fmean(found))
    return f"{fmean(means):.{digits}f}" if means else ""


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
