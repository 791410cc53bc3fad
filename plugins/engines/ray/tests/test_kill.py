"""kill -9, at any moment, of the run or of those that work for it: the same rows come out.

CVX_KILLS=20 kills as often.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from cvx_diagnose import Run, diagnose
from cvx_engine import Local
from cvx_engine.testing.conformance import assert_ended

from cvx_core import VisionModel

KILLS = int(os.environ.get("CVX_KILLS", "2"))

RUN = """
import os, signal, sys, time
from cvx_core import Preprocess, VisionModel
from cvx_core.testing.models import CLASSES, convolutional
from cvx_diagnose import diagnose

class Treacherous:
    def __init__(self):
        self.inner = Preprocess(crop=32)

    def __call__(self, image):
        time.sleep(0.3)
        if image.getpixel((0, 0)) == (255, 0, 255):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(image)

model = VisionModel(convolutional().module, Treacherous(), CLASSES, name="net")
diagnose(model, sys.argv[1], sys.argv[2], engine="ray", resume=True, block_size=4, batch_size=2,
         budget=0.0)
"""


def children(process: int) -> list[int]:
    """Return all that descend from a process."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, left = [], [process]
    while left:
        left += (own := parents.get(left.pop(), []))
        found += own
    return found


def workers(process: int) -> list[int]:
    """Return those that decode or explain for a run."""
    found = []
    for child in children(process):
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if line.startswith((b"ray::Decoding", b"ray::Explaining")):
            found.append(child)
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_kills_lose_nothing(
    model: Callable[..., VisionModel],
    photographs: Path,
    tmp_path: Path,
    same: Callable[[pa.Table, pa.Table], bool],
) -> None:
    asked = {"block_size": 4, "batch_size": 2, "budget": 0.0}
    whole = diagnose(
        model(), photographs, tmp_path / "whole", engine=Local(workers=2), **asked
    ).table()
    chance, killed, run = random.Random(0), {"run": 0, "worker": 0}, None
    while sum(killed.values()) < KILLS:
        if run is None or run.poll() is not None:
            assert run is None or run.returncode in (0, -signal.SIGKILL), run.returncode
            if run is not None and run.returncode == 0:  # it was faster than we: once more
                for file in list((tmp_path / "run/rows").iterdir())[:8]:
                    file.unlink()
            command = [sys.executable, "-c", RUN, str(photographs), str(tmp_path / "run")]
            run = subprocess.Popen(command)
            deadline = time.monotonic() + 120
            while len(workers(run.pid)) < 2 and run.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        time.sleep(chance.uniform(0, 6))
        if chance.random() < 0.5:
            victims = workers(run.pid)
            if victims:
                os.kill(chance.choice(victims), signal.SIGKILL)
                killed["worker"] += 1
        elif run.poll() is None:
            all_of_them = children(run.pid)
            run.kill()
            run.wait()
            killed["run"] += 1
            assert_ended(all_of_them)
    assert run is not None
    run.wait()
    diagnose(model(), photographs, tmp_path / "run", engine=Local(workers=2), resume=True, **asked)
    print(killed)
    assert same(Run(tmp_path / "run").table(), whole)
    assert not list((tmp_path / "run").rglob(".cvx-*"))
