"""Measure detectors and segmenters, and write docs/reference/coverage-dense.md.

Results are kept in build/dense, and a run that was stopped goes on where it was. ``python
tests/dense --only yolo`` measures some anew.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "YOLO_OFFLINE": "true"}
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from dense import page  # noqa: E402
from dense.measure import measure, wrong  # noqa: E402
from dense.networks import networks  # noqa: E402

RESULTS = ROOT / "build" / "dense"
PAGE = ROOT / "docs" / "reference" / "coverage-dense.md"


def main() -> int:
    """Run what is asked for; 1 if a network is not covered."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python tests/dense")
    parser.add_argument("--only", default="", help="regular expression for source:name")
    only = parser.parse_args().only
    RESULTS.mkdir(parents=True, exist_ok=True)
    results = []
    for network in networks():
        name = f"{network.source}:{network.name}"
        kept = RESULTS / f"{re.sub('[^a-zA-Z0-9]+', '-', name)}.json"
        if (only and re.search(only, name)) or not (only or kept.exists()):
            kept.write_text(json.dumps(measure(network)))
            found = json.loads(kept.read_text())
            print(f"{name}: {'; '.join(wrong(found)) or 'covered'}", flush=True)
        if kept.exists():
            results.append(json.loads(kept.read_text()))
    PAGE.write_text(page.written(results), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}: {len(results)} networks")
    return 1 if any(map(wrong, results)) else 0


if __name__ == "__main__":
    sys.exit(main())
