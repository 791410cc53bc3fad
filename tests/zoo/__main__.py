"""Measure every network, and write docs/reference/coverage.md.

Each network is measured in a process of its own, whose result goes to a file at once: a run that
is stopped goes on where it was, and a network that takes the memory of the machine takes no other
with it. ``python tests/zoo --help`` says more.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from zoo import page  # noqa: E402
from zoo.exceptions import unexplained, wrong  # noqa: E402
from zoo.measure import send_measured  # noqa: E402
from zoo.networks import Network, networks  # noqa: E402

RESULTS = ROOT / "build" / "coverage"
PAGE = ROOT / "docs" / "reference" / "coverage.md"
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["zoo.measure", "captum.attr", "pytorch_grad_cam", "torchcam.methods", "zennit.composites",
     "timm", "transformers.models.auto.modeling_auto"]
)  # fmt: skip
LONGEST = 1800
"""Seconds that one network may take."""


def main() -> int:
    """Run what is asked for; 1 if a network is not covered and nothing explains it."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python tests/zoo")
    parser.add_argument("--only", default="", help="regular expression for source:name")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time")
    parser.add_argument("--again", action="store_true", help="measure what is measured already")
    parser.add_argument("--alone", action="store_true", help="leave the other libraries out")
    asked = parser.parse_args()
    every = {network.id: network for network in networks()}
    chosen = [name for name in every if re.search(asked.only, name)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(asked.jobs) as pool:
        missing = [name for name in chosen if asked.again or not _file(name).exists()]
        measured = pool.map(lambda name: _alone(every[name], not asked.alone), missing)
        for name, found in zip(missing, measured, strict=True):
            _file(name).write_text(json.dumps(found, indent=1))
            print(f"{name}: {'; '.join(wrong(found)) or 'covered'}", flush=True)
    results = [json.loads(_file(name).read_text()) for name in every if _file(name).exists()]
    if len(results) == len(every):
        PAGE.write_text(page.written(results), encoding="utf-8")
        print(f"wrote {PAGE.relative_to(ROOT)}")
    return 1 if any(map(unexplained, results)) else 0


def _alone(network: Network, beside: bool) -> dict[str, Any]:
    """Measure a network in a process that ends with it."""
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=send_measured, args=(there, network.id, beside))
    process.start()
    there.close()
    try:
        if here.poll(LONGEST):
            found: dict[str, Any] = here.recv()
            return found
        return {"network": network.id, "failure": f"took more than {LONGEST} seconds"}
    except EOFError:
        process.join()
        return {"network": network.id, "failure": f"its process ended with {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def _file(name: str) -> Path:
    return RESULTS / (name.replace(":", "-") + ".json")


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.exit(main())
