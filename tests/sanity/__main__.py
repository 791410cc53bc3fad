"""Check every announced method on photographs, and write the table of docs/explanation/sanity.md.

The network is the embedded one, with its trained weights; the photographs come with it. All methods
are asked together, so that they share the random networks. Takes a few hours on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from cvx_embedded import photographs
from cvx_score.checks.randomization import STAGES

import cvx_core as cvx
from cvx_core.plugins.discovery import registry

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "sanity.json"
PAGE = ROOT / "docs" / "explanation" / "sanity.md"
BEGIN, END = "<!-- table: python tests/sanity -->\n", "<!-- end of the table -->"

SMALLER: dict[str, dict[str, Any]] = {
    "affects": {"query": (160, 120)},
    "reads": {"query": (160, 120)},
    "rise": {"masks": 100},
    "occlusion": {"window": 64, "stride": 32},
    "smoothgrad": {"copies": 10},
    "effective-receptive-field": {"copies": 10},
    "integrated-gradients": {"steps": 8},
}
"""Parameters without which there is no map, or it takes more than seconds, 16 to 48 times."""

HOURS = {"score-cam"}
"""One run of the network for each of 1280 channels, 16 to 48 times."""


def main() -> int:
    """Measure what is not there yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python tests/sanity")
    parser.add_argument("--page", action="store_true", help="write the table and run nothing")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    announced = [offer.component.name for offer in registry().offers("explainer")]
    code = digest()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found = kept["found"] if kept.get("code") == code else {}
    if arguments.page and not found:
        print(f"{RESULTS} holds nothing that this code has measured.", file=sys.stderr)
        return 1
    for photograph in photographs():
        name = photograph.path.name
        missing = [m for m in announced if m not in found.get(name, {}) and m not in HOURS]
        if missing and not arguments.page:
            found.setdefault(name, {}).update(checked(missing, photograph.path))
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps({"code": code, "found": found}, indent=1))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + table(announced, found) + END + rest.partition(END)[2])
    return 0


def digest() -> str:
    """Return what tells the code that measures from any other: SHA-256 of all of its files."""
    folders = [ROOT / "cvx_core", *ROOT.glob("plugins/explainers/*/src"), Path(__file__).parent]
    folders.append(ROOT / "plugins" / "models" / "embedded" / "src")
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    content = hashlib.sha256()
    for file in files:
        content.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    return content.hexdigest()


def checked(methods: list[str], photograph: Path) -> dict[str, Any]:
    """Return the verdict on the map of each method, or why there is no map."""
    model, able, refused = cvx.load_model("embedded"), [], {}
    for method in methods:
        explainer = cvx.get_explainer(method, **SMALLER.get(method, {}))
        try:
            explainer.explain(model, photograph, cvx.Predicted())
        except cvx.CvxError as error:
            refused[method] = {"refused": str(error)}
        else:
            able.append(explainer)
    found = cvx.explain(model, photograph, able, cvx.Predicted(), sanity=True)
    return refused | {
        one.method: {
            **one.evidence["sanity"].to_dict(),
            "class_specific": one.evidence["class_specific"],
        }
        for one in found
    }


def table(announced: list[str], found: dict[str, Any]) -> str:
    """Return a row for each method: correlations as means over the photographs."""
    lines = [
        "| method | output | third | two thirds | all | another view | verdicts |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in sorted(announced):
        result = [verdicts[method] for verdicts in found.values() if method in verdicts]
        several = [one for one in result if "verdict" in one]
        name = f"`{method}`" + ("" if not several or several[0]["class_specific"] else " *")
        if not several:
            why = "not supported" if result else "not measured: too slow"
            lines.append(f"| {name} | | | | | | {why} |")
            continue
        cells = [mean(one["correlation"].get(stage) for one in several) for stage in STAGES]
        deciding = STAGES if several[0]["class_specific"] else ["all"]
        views = mean(max(one["chance"].get(s, 0.0) for s in deciding) for one in several)
        verdicts = Counter(one["verdict"] for one in several)
        words = ", ".join(f"{word} {n}" for word, n in sorted(verdicts.items()))
        lines.append(f"| {name} | {' | '.join(cells)} | {views} | {words} |")
    return "\n".join(lines) + "\n"


def mean(values: Any) -> str:
    """Return a mean with two digits, or nothing where one is missing."""
    numbers = list(values)
    return "" if None in numbers else f"{sum(numbers) / len(numbers):.2f}".replace("-0.00", "0.00")


if __name__ == "__main__":
    sys.exit(main())
