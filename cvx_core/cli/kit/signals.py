"""Signals that end a command, and exit codes that no error has."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SOME_FAILED = 4
"""Some inputs failed, the others are done."""

REQUIREMENT_FAILED = 7
"""All is done, but the results fall short of what was required."""

INTERRUPTED = 130
"""Ended by Ctrl-C; another signal gives 128 and its number, as shells count."""


class Ended(KeyboardInterrupt):
    """A signal asked the program to end; it ends in order, as after Ctrl-C.

    Parameters
    ----------
    number
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


def interruption_code(error: BaseException | None) -> int:
    """Return the exit code for an interruption, also for one that became another exception."""
    while error is not None:
        if isinstance(error, Ended):
            return 128 + error.number
        error = error.__cause__ or error.__context__
    return INTERRUPTED


@contextmanager
def heeding_signals() -> Iterator[None]:
    """Raise `Ended` where SIGTERM (a scheduler) or SIGHUP (a closed terminal) would kill at once.

    A signal that somebody already handles or ignores (``nohup``) is left to them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    ours = [one for one in known if one is not None and signal.getsignal(one) == signal.SIG_DFL]
    for one in ours:
        signal.signal(one, _end)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise Ended(number)
