"""A network that ends its process on an input costs that input, and nobody has to be there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cvx_diagnose import Run, diagnose
from cvx_diagnose.run.crash_journal import CrashJournal
from cvx_diagnose.run.region_phase import TESTING
from cvx_engine.local import Local

from cvx_core import VisionModel

Tree = Callable[..., Path]

NET = """
import os, signal
import torch
from cvx_core import Preprocess, VisionModel
from cvx_core.testing.models import CLASSES, convolutional

class Deadly(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = convolutional().module

    def forward(self, x):
        white = x.amin((1, 2, 3)) > 2
        black = x.amax((1, 2, 3)) < -1.5
        if bool(white.any()):
            os.abort()
        if bool(black.any()):
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory runs out
        return self.inner(x)

def make():
    return VisionModel(Deadly().eval(), preprocess=Preprocess(crop=32), classes=CLASSES)
"""


def test_what_ends_the_process_is_found_by_halves(tmp_path: Path) -> None:
    journal = CrashJournal(tmp_path, (0, 1))
    assert journal.record_crash("SIGABRT") is None
    batch = (3, 4, 5, 6, 7)
    # Number 6 ends it each time that it is taken.
    expected = [[batch], [(3, 4), (5, 6, 7)], [(3, 4), (5,), (6, 7)], [(3, 4), (5,), (6,), (7,)]]
    held = []  # a process that ends leaves no block, and neither must the one of this test
    for parts in expected:
        journal = CrashJournal(tmp_path, (0, 1))
        assert journal.split("x", batch) == parts
        deadly = next(part for part in parts if 6 in part)
        assert journal.cause("x", deadly) is None
        held.append(journal.in_flight("x", deadly))
        held[-1].__enter__()
        assert CrashJournal(tmp_path, (0, 1)).record_crash("SIGABRT") == ("x", deadly)
    journal = CrashJournal(tmp_path, (0, 1))
    assert journal.cause("x", (6,)) == "SIGABRT"
    assert journal.cause("x", (5,)) is None
    assert journal.split("y", batch) == [batch]
    with journal.in_flight("x", (5,)):
        pass
    assert CrashJournal(tmp_path, (0, 1)).record_crash("SIGABRT") is None


@pytest.mark.parametrize("text", ["[1]", "{}", '[{"stage": "x"}]', "nothing"])
def test_a_damaged_journal_is_an_empty_one(tmp_path: Path, text: str) -> None:
    for name in ("crashes", "in-flight"):
        (tmp_path / f"{name}-0-of-1.json").write_text(text)
    journal = CrashJournal(tmp_path, (0, 1))
    assert journal.split("x", (1, 2)) == [(1, 2)]
    assert journal.record_crash("SIGABRT") is None


def test_errors_whose_test_ended_the_process_say_that_they_were_not_tested(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"engine": Local(workers=1), "budget": 7.0, "block_size": 6}
    run = diagnose(model, tree(6), tmp_path / "run", **asked)
    [first, *_] = sorted((tmp_path / "run/rows").iterdir())
    tested = run.table(["id", "tested"], wrong=True).to_pylist()
    tested_ids = [row["id"] for row in tested if row["tested"]]
    ids = (next(one for one in tested_ids if one < 6),)
    journal = CrashJournal(tmp_path / "run", (0, 1))
    held = journal.in_flight(TESTING, ids)
    held.__enter__()
    assert CrashJournal(tmp_path / "run", (0, 1)).record_crash("SIGSEGV") == (TESTING, ids)
    first.unlink()
    again = diagnose(model, tmp_path / "data", tmp_path / "run", resume=True, **asked)
    rows = again.table(["id", "tested", "message"], wrong=True).to_pylist()
    [odd] = [row for row in rows if row["id"] in ids]
    assert not odd["tested"]
    assert "ended the process (SIGSEGV)" in odd["message"]
    assert [row["id"] for row in rows if row["tested"]] == [k for k in tested_ids if k not in ids]


def begun(data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    (data.parent / "net.py").write_text(NET)
    asked = ("diagnose", "data", "-m", "net.py:make", "--block", "8", "--batch", "4")
    return subprocess.run(
        [sys.executable, "-m", "cvx_core.cli", *asked, "--budget", "0", *more],
        cwd=data.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_every_input_has_its_row_though_two_end_the_process(tree: Tree) -> None:
    data = tree(2, white=(255, 255, 255), black=(0, 0, 0))
    done = begun(data)
    assert done.returncode == 4, done.stderr
    assert "The process ended (SIGABRT) while explaining 4 inputs" in done.stderr
    run = Run(data.parent / "cvx-diagnose")
    rows = run.table(["path", "status", "message"]).to_pylist()
    assert len(rows) == 12
    odd = {row["path"]: row for row in rows if row["status"] != "ok"}
    assert {path: row["status"] for path, row in odd.items()} == {
        "ant/black.png": "crashed",
        "ant/white.png": "crashed",
    }
    assert "(SIGABRT)" in odd["ant/white.png"]["message"]
    assert "(SIGKILL)" in odd["ant/black.png"]["message"]
    assert run.summary is not None
    assert run.summary["counts"]["crashed"] == 2
    assert not list(run.folder.glob("in-flight*"))
    # Asked again it is not tried again.
    again = begun(data, "--resume", "--json", "-q")
    assert json.loads(again.stdout)["counts"] == run.summary["counts"]
    assert "process ended" not in again.stderr


@pytest.mark.slow
def test_whoever_waits_takes_the_worker_along(tree: Tree) -> None:
    data = tree(2)
    (data.parent / "net.py").write_text("import time\n\ndef make():\n    time.sleep(100)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "cvx_core.cli", "diagnose", "data", "-m", "net.py:make"],
        cwd=data.parent,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := children.read_text().split()):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    for _ in range(300):
        try:
            state = Path(f"/proc/{found[0]}/stat").read_text().split()[2]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    pytest.fail("The worker lives on.")
