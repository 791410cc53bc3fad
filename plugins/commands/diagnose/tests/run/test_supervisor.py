"""A supervisor tells a command that ended from a process that foreign code ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import os, sys
from pathlib import Path
from cvx_diagnose.run.crash_journal import CrashJournal
from cvx_diagnose.run.supervisor import supervise

folder, closing = Path(sys.argv[1]), []
code, resumed = supervise(folder, (0, 1), print, closing.append)
if code is None:
    if "in order" in sys.argv or resumed:
        closing[0]()
    elif "in flight" in sys.argv:
        held = CrashJournal(folder, (0, 1)).in_flight("explaining", (4, 5))
        held.__enter__()
    os._exit(3)
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("in order", 3, ""),
        ("at once", 6, "The process ended (exit code 3), but not while the network"),
        ("in flight", 3, "The process ended (exit code 3) while explaining 2 inputs; resuming"),
    ],
)
def test_an_exit_code_counts_only_if_the_command_ended(
    tmp_path: Path, how: str, code: int, said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(tmp_path), how],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert said in done.stdout
    assert bool(said) == bool(done.stdout)
