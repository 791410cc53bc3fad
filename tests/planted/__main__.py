"""Measure every method on planted causes, and write docs/explanation/planted.md.

Networks are trained on first use. What was measured goes to a file for each network and cause at
once, so that a run that is stopped goes on where it was. ``python tests/planted --help``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from planted import page  # noqa: E402
from planted.causes import CAUSES  # noqa: E402
from planted.methods import METHODS  # noqa: E402
from planted.networks import KEPT, RECIPES, cases, pair  # noqa: E402
from planted.scoring import score  # noqa: E402

PAGE = ROOT / "docs" / "explanation" / "planted.md"


def main() -> int:
    """Run what is asked for and has not been measured yet."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python tests/planted")
    parser.add_argument("--networks", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    names = [cause.name for cause in CAUSES]
    parser.add_argument("--causes", nargs="*", default=names, choices=names)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--cases", type=int, default=12, help="of each network and cause")
    parser.add_argument("--seed", type=int, default=2, help="of where the causes are put")
    parser.add_argument("--again", action="store_true", help="measure what was measured before")
    given = parser.parse_args()
    for network in given.networks:
        for cause in (cause for cause in CAUSES if cause.name in given.causes):
            file = KEPT / f"scores-{network}-{cause.name}.json"
            known = json.loads(file.read_text()) if file.exists() else {}
            how = {"asked": given.cases, "seed": given.seed}
            wanted = [
                name
                for name in given.methods
                if given.again
                or name not in known
                or not (how | {"code": code(name)}).items() <= known[name].items()
            ]
            if not wanted:
                continue
            both = pair(RECIPES[network], cause)
            chosen = cases(both, RECIPES[network], cause, given.cases, given.seed)
            found = score(both, chosen, {name: METHODS[name] for name in wanted})
            found = {name: {**row, **how, "code": code(name)} for name, row in found.items()}
            # Another run may have written in the meantime.
            known = (json.loads(file.read_text()) if file.exists() else {}) | found
            known = {name: known[name] for name in METHODS if name in known}
            file.write_text(json.dumps(known, indent=1))
            print(network, cause.name, json.dumps(found.get("cvx why", {})), flush=True)
    missing = page.unmeasured(KEPT, RECIPES, names, METHODS)
    if missing:
        print(f"The page stays; without all methods on the same cases: {', '.join(missing)}")
    else:
        page.write(KEPT, PAGE)
    return 0


def code(method: str) -> str:
    """Return what a method's numbers hold for: of ``cvx why`` its source, else nothing."""
    if method != "cvx why":
        return ""
    source = ROOT / "plugins" / "commands" / "why" / "src" / "cvx_why"
    files = [source / "investigation.py", *sorted((source / "search").glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
