"""The page of the planted benchmark: its tables, put between the marks in the text."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from planted.scoring import Row

MEASURES = (
    ("hit", "hit"),
    ("hit, tolerant", "hit, with tolerance"),
    ("mass", "mass"),
    ("rank accuracy", "rank accuracy"),
    ("right at 5 %", "right without 5 %"),
    ("false alarm", "false alarm"),
)
REPORTED = (
    ("cases", "cases"),
    ("hit", "hit"),
    ("hit, tolerant", "hit, with tolerance"),
    ("rank accuracy", "rank accuracy"),
    ("verified", "verified"),
    ("right after the fix", "right after the fix"),
    ("share of the fix", "share of the fix"),
    ("false alarm", "false alarm"),
    ("false alarm, as asked", "false alarm, as asked"),
)


def write(measured: Path, page: Path) -> None:
    """Put the tables of all that was measured into the page."""
    files = sorted(measured.glob("scores-*.json"))
    scores = {
        tuple(file.stem.split("-", 1)[1].rsplit("-", 1)): json.loads(file.read_text())
        for file in files
    }
    text = page.read_text(encoding="utf-8")
    networks = list(dict.fromkeys(network for network, _ in scores))
    for name, table in (("methods", _methods(scores, networks)), ("why", _why(scores))):
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        text = before + begin + table + end + after
    page.write_text(text, encoding="utf-8")


def _methods(scores: dict[tuple[str, ...], dict[str, Row]], networks: list[str]) -> str:
    parts = []
    for network in networks:
        of_network = [found for (name, _), found in scores.items() if name == network]
        total = round(sum(found["cvx why"]["cases"] * 1 for found in of_network))
        parts.append(f"### {network}, {len(of_network)} causes, {total} cases\n")
        lines = [_line(["method", "passes", *(title for _, title in MEASURES)])]
        lines.append(_line(["---"] * (len(MEASURES) + 2)))
        for method in of_network[0]:
            rows = [found[method] for found in of_network]
            weights = [found["cvx why"]["cases"] for found in of_network]
            mean = {k: _mean([row[k] for row in rows], weights) for k in rows[0]}
            cells = [f"{mean[key]:.2f}" for key, _ in MEASURES]
            lines.append(_line([method, f"{mean['passes']:.0f}", *cells]))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _why(scores: dict[tuple[str, ...], dict[str, Row]]) -> str:
    lines = [_line(["network", "cause", *(title for _, title in REPORTED)])]
    lines.append(_line(["---"] * (len(REPORTED) + 2)))
    for (network, cause), found in scores.items():
        row = found["cvx why"]
        cells = [f"{row[k]:.0f}" if k == "cases" else f"{row[k]:.2f}" for k, _ in REPORTED]
        lines.append(_line([network, cause, *cells]))
    total: dict[str, list[float]] = defaultdict(list)
    weights = [found["cvx why"]["cases"] for found in scores.values()]
    for found in scores.values():
        for key, _ in REPORTED:
            total[key].append(found["cvx why"][key])
    means = [
        f"{sum(weights):.0f}" if k == "cases" else f"{_mean(total[k], weights):.2f}"
        for k, _ in REPORTED
    ]
    lines.append(_line(["all", "", *means]))
    return "\n".join(lines) + "\n"


def _mean(values: list[float], weights: list[float]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / max(1e-12, sum(weights))


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
