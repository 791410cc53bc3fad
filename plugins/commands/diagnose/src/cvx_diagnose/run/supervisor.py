"""A run that outlives its network: whatever ends the process that explains, another goes on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from cvx_diagnose.run.crash_journal import Journal

_PASSED_ON = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


def outliving(
    folder: Path, shard: tuple[int, int], said: Callable[[str], None]
) -> tuple[int | None, bool]:
    """Split into a process that does the work and one that waits for it, and begins it again.

    Parameters
    ----------
    folder, shard
        Of the run.
    said
        Told, in words, what ended the work.

    Returns
    -------
    pair
        In the process that is to do the work, None and whether it goes on with what another began.
        In the one that waited, the exit code, when all is over. Where processes can't be split
        (Windows), or there are threads already, the work is done without anybody waiting.
    """
    if not hasattr(os, "fork") or threading.active_count() > 1:
        return None, False
    again = False
    while True:
        sys.stdout.flush()
        sys.stderr.flush()
        here = os.getpid()
        child = os.fork()
        if child == 0:
            # Ctrl-C reaches the one that waits, which passes it on: once, not twice.
            os.setpgid(0, 0)
            from cvx_engine.pool import end_with_parent

            end_with_parent(here)
            return None, again
        code = _waited(child)
        if code >= 0:
            return code, again
        cause = signal.Signals(-code).name
        busy = Journal(folder, shard).ended(cause)
        if busy is None:
            said(f"The process was ended by {cause}, outside of the network's work on an input.")
            return 128 - code, again
        doing, ids = busy
        what = "one input" if len(ids) == 1 else f"{len(ids)} inputs"
        said(f"{cause} ended the process while {doing} {what}; going on without what ended it.")
        again = True


def _waited(child: int) -> int:
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
