"""The page of the planted benchmark: its tables, put between the marks in the text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import product
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
COST = (("cases", "cases"), ("passes", "passes"), ("seconds", "seconds"))
HEAD = (("", "method"), *COST, *MEASURES)
BESIDE = {"cvx why": "why", "absolute gradient of the loss": "gradient", "chance": "chance"}
REPORTED = (
    *COST,
    ("hit", "hit"),
    ("hit, tolerant", "hit, with tolerance"),
    ("rank accuracy", "rank accuracy"),
    ("verified", "verified"),
    ("right after the fix", "right after the fix"),
    ("share of the fix", "share of the fix"),
    ("false alarm", "false alarm"),
    ("the twin blames something", "the twin blames something"),
    ("false alarm, as asked", "false alarm, as asked"),
)
_DIGITS = {"cases": 0, "passes": 0, "seconds": 1}


def unmeasured(
    measured: Path, networks: Iterable[str], causes: Iterable[str], methods: Iterable[str]
) -> list[str]:
    """Return which networks and causes lack a method, or have methods on other cases."""
    found = []
    for network, cause in product(networks, causes):
        file = measured / f"scores-{network}-{cause}.json"
        rows = json.loads(file.read_text()) if file.exists() else {}
        asked = {(row.get("asked"), row.get("seed")) for row in rows.values()}
        if set(rows) != set(methods) or len(asked) != 1:
            found.append(f"{network} {cause}")
    return found


def write(measured: Path, page: Path) -> None:
    """Put the tables of all that was measured into the page."""
    files = sorted(measured.glob("scores-*.json"))
    scores = {
        tuple(file.stem.split("-", 1)[1].rsplit("-", 1)): json.loads(file.read_text())
        for file in files
    }
    text = page.read_text(encoding="utf-8")
    networks = list(dict.fromkeys(network for network, _ in scores))
    tables = {
        "methods": _methods(scores, networks),
        "why": _why(scores),
        "gradient": _gradient(scores, networks),
    }
    for name, table in tables.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        text = before + begin + table + end + after
    page.write_text(text, encoding="utf-8")


def _methods(scores: dict[tuple[str, ...], dict[str, Row]], networks: list[str]) -> str:
    parts = []
    for network in networks:
        of_network = [found for (name, _), found in scores.items() if name == network]
        parts.append(f"### {network}, {len(of_network)} causes\n")
        lines = [_line([title for _, title in HEAD]), _line(["---"] * len(HEAD))]
        for method in dict.fromkeys(name for found in of_network for name in found):
            rows = [found[method] for found in of_network if method in found]
            lines.append(_line([method, *_cells(_mean(rows), HEAD[1:])]))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _gradient(scores: dict[tuple[str, ...], dict[str, Row]], networks: list[str]) -> str:
    columns = [one for one in MEASURES if one[0] in ("hit", "rank accuracy", "false alarm")]
    head = ["network", *(f"{title}, {name}" for _, title in columns for name in BESIDE.values())]
    lines = [_line(head), _line(["---"] * len(head))]
    for network in networks:
        of_network = [found for (name, _), found in scores.items() if name == network]
        rows = [[found[name] for found in of_network if name in found] for name in BESIDE]
        if all(rows):
            means = [_mean(row) for row in rows]
            cells = [_cells(mean, (column,))[0] for column in columns for mean in means]
            lines.append(_line([network, *cells]))
    return "\n".join(lines) + "\n"


def _why(scores: dict[tuple[str, ...], dict[str, Row]]) -> str:
    head = [("", "network"), ("", "cause"), *REPORTED]
    lines = [_line([title for _, title in head]), _line(["---"] * len(head))]
    rows = {names: found["cvx why"] for names, found in scores.items() if "cvx why" in found}
    lines += [_line([*names, *_cells(row, REPORTED)]) for names, row in rows.items()]
    for network in dict.fromkeys(network for network, _ in rows):
        of_network = [row for (name, _), row in rows.items() if name == network]
        lines.append(_line([network, "all", *_cells(_mean(of_network), REPORTED)]))
    if rows:
        lines.append(_line(["all", "all", *_cells(_mean([*rows.values()]), REPORTED)]))
    return "\n".join(lines) + "\n"


def _cells(row: Row, columns: tuple[tuple[str, str], ...]) -> list[str]:
    return [f"{row[key]:.{_DIGITS.get(key, 2)}f}" for key, _ in columns]


def _mean(rows: list[Row]) -> Row:
    """Return the mean over the cases of several rows."""
    total = sum(row["cases"] for row in rows)
    measured = [key for key, value in rows[0].items() if not isinstance(value, str)]
    mean = {key: sum(row[key] * row["cases"] for row in rows) / total for key in measured}
    return {**mean, "cases": total}


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
