"""Supervisor of a run: restarts the process when the network ends it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

from cvx_core import PluginError
from cvx_diagnose.run.crash_journal import CrashJournal

_PASSED_ON = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


def supervise(
    folder: Path,
    shard: tuple[int, int],
    notify: Callable[[str], None],
    on_close: Callable[[Callable[[], object]], object],
) -> tuple[int | None, bool]:
    """Fork into a worker process and a supervisor that restarts it after a crash.

    Parameters
    ----------
    folder, shard
        Of the run.
    notify
        Called with a message about each crash.
    on_close
        Called in the worker with a function to call when the command ends in order. A process
        that foreign code ends (``os._exit``, ``exit`` in C) does not get there.

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
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            on_close(partial(os.write, writing, b"."))
            # Ctrl-C reaches only the supervisor, which forwards it: once, not twice.
            os.setpgid(0, 0)
            from cvx_engine.pool import end_with_parent

            end_with_parent(parent)
            return None, resumed
        os.close(writing)
        code = _wait(child)
        os.set_blocking(reading, False)  # a process of the worker's may still hold the other end
        closed = b""
        with suppress(BlockingIOError):
            closed = os.read(reading, 1)
        os.close(reading)
        if code >= 0 and closed:
            return code, resumed
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        crashed = CrashJournal(folder, shard).record_crash(cause)
        if crashed is None:
            notify(f"The process ended ({cause}), but not while the network processed an input.")
            return 128 - code if code < 0 else PluginError.exit_code, resumed
        stage, ids = crashed
        what = "one input" if len(ids) == 1 else f"{len(ids)} inputs"
        notify(f"The process ended ({cause}) while {stage} {what}; resuming without its cause.")
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
