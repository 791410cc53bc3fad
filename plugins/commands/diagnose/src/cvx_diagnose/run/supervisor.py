"""Supervisor of a run: restarts the process when the network ends it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from cvx_diagnose.run.crash_journal import CrashJournal

_PASSED_ON = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


def supervise(
    folder: Path, shard: tuple[int, int], notify: Callable[[str], None]
) -> tuple[int | None, bool]:
    """Fork into a worker process and a supervisor that restarts it after a crash.

    Parameters
    ----------
    folder, shard
        Of the run.
    notify
        Called with a message about each crash.

    Returns
    -------
    pair
        In the worker, None and whether it resumes after a crash. In the supervisor, the exit code
        when all is done. Where processes can't be forked (Windows), or other threads run already,
        the work is done without a supervisor.
    """
    if not hasattr(os, "fork") or threading.active_count() > 1:
        return None, False
    resumed = False
    while True:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            # Ctrl-C reaches only the supervisor, which forwards it: once, not twice.
            os.setpgid(0, 0)
            from cvx_engine.pool import end_with_parent

            end_with_parent(parent)
            return None, resumed
        code = _wait(child)
        if code >= 0:
            return code, resumed
        cause = signal.Signals(-code).name
        crashed = CrashJournal(folder, shard).record_crash(cause)
        if crashed is None:
            notify(f"{cause} ended the process, but not while the network processed an input.")
            return 128 - code, resumed
        stage, ids = crashed
        what = "one input" if len(ids) == 1 else f"{len(ids)} inputs"
        notify(f"{cause} ended the process while {stage} {what}; resuming without its cause.")
        resumed = True


def _wait(child: int) -> int:
    """Return how a process ended: its exit code, or the negative number of a signal."""

    def pass_on(number: int, _: FrameType | None) -> None:
        os.kill(child, number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
