"""Mutations of the core, drawn at random, and the tests that catch them.

Each mutation is made in a copy of the work tree. Its module's tests run first, then those that use
the module, then all others; tests that fail without a mutation are left out. Results go to a file
at once: a run that is stopped is resumed by the next.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from mutation.sample import Mutation, drawn  # noqa: E402
from mutation.trials import STAGES, Tree, copied  # noqa: E402

FOLDER = ROOT / "build" / "mutation"
LEAST = 600
"""Seconds that tests may take at least: the machine may be busy."""
DAY = 24 * 3600


def main() -> int:
    """Run the mutations of a seed; 1 if one survived."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.mutation")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=60, help="number of mutations")
    parser.add_argument("--until", choices=STAGES, default="whole", help="last tests to run")
    parser.add_argument("--again", action="store_true", help="run survivors once more")
    asked = parser.parse_args()
    file = FOLDER / f"seed-{asked.seed}.jsonl"
    last = {row["mutation"]: row for row in read(file) if not asked.again or caught(row)}
    with copied(ROOT) as tree:
        sample = drawn(tree.folder, asked.seed, asked.count)
        try:
            complete(tree, sample, STAGES.index(asked.until), last, file)
        except KeyboardInterrupt:
            print("stopped; the same command resumes the run", file=sys.stderr)
    rows = [last[m.name] for m in sample if m.name in last]
    file.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    return int(not all(map(caught, rows)))


def read(file: Path) -> list[dict[str, Any]]:
    """Rows of a file of results, the oldest first."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def caught(row: dict[str, Any]) -> bool:
    """Whether tests noticed a mutation."""
    return bool(row["outcome"] != "survived")


def complete(
    tree: Tree, sample: list[Mutation], until: int, last: dict[str, dict[str, Any]], file: Path
) -> None:
    """Run each stage for the mutations that survived the stages before."""

    def add(
        name: str, stage: int, start: float, outcome: str, failures: list[str], diff: str
    ) -> None:
        row = {"mutation": name, "stage": STAGES[stage], "outcome": outcome, "failures": failures}
        last[name] = row | {"seconds": round(time.monotonic() - start), "diff": diff}
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as stream:
            stream.write(json.dumps(last[name]) + "\n")
        print(f"{outcome} by {STAGES[stage]}: {name}", *failures, sep="\n  ", file=sys.stderr)

    spread = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    if "none" not in last:
        print("running all tests without a mutation", file=sys.stderr)
        start = time.monotonic()
        add("none", 2, start, "measured", tree.run(["tests", "plugins"], DAY, *spread)[1], "")
    longest = LEAST + 2 * last["none"]["seconds"]
    left_out = [f"--deselect={test.split(' - ')[0]}" for test in last["none"]["failures"]]
    for stage in range(until + 1):
        for mutation in sample:
            row = last.get(mutation.name)
            if row is not None and (caught(row) or STAGES.index(row["stage"]) >= stage):
                continue
            start = time.monotonic()
            source = (tree.folder / mutation.module).read_text()
            tests = tree.stages(mutation.module)[stage]
            options = ("-x", *left_out, *(spread if stage > 0 else ()))
            with tree.changed(mutation) as code:
                result = tree.run(tests, longest, *options) if tests else ("survived", [])
            lines = difflib.unified_diff(source.splitlines(), code.splitlines(), lineterm="", n=1)
            add(mutation.name, stage, start, *result, "\n".join(lines))


def table(rows: list[dict[str, Any]]) -> str:
    """Results as a Markdown table, then the diffs of survivors."""
    lines = ["| mutation | outcome | stage | failure |", "|---|---|---|---|"]
    for row in rows:
        failure = "".join(row["failures"][:1]).split(" - ")[0].replace("|", "\\|")
        lines.append(f"| {row['mutation']} | {row['outcome']} | {row['stage']} | {failure} |")
    counts = Counter(row["outcome"] for row in rows)
    lines += ["", ", ".join(f"{outcome}: {n}" for outcome, n in sorted(counts.items()))]
    lines += [f"\n{row['mutation']}\n{row['diff']}" for row in rows if not caught(row)]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
