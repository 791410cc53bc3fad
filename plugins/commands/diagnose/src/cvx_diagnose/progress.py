"""Progress of a run on the console."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cvx_engine import Listener

from cvx_core.cli import kit

EVERY = 15.0
"""Seconds between two lines where there is no terminal for a progress bar."""


class RunProgress(Listener):
    """Reports the progress of a run.

    Parameters
    ----------
    reporter
        Prints it.
    """

    def __init__(self, reporter: kit.Reporter) -> None:
        self.reporter = reporter
        self.total = self.count = 0
        self.started = self.reported = time.monotonic()

    def begins(self, total: int) -> None:
        """Start the progress bar."""
        self.total, self.started = total, time.monotonic()
        self.reported = self.started
        self.reporter.stage("diagnosing", total=total)

    def stage(self, text: str, total: int | None = None) -> None:
        """Start the progress bar of a stage, or print its name."""
        self.total, self.count, self.started = total or 0, 0, time.monotonic()
        self.reported = self.started
        self.reporter.stage(text, total=total)
        if not self.reporter.moving:
            self.reporter.note(text)

    def advanced(self, count: int) -> None:
        """Advance the progress bar, or print a line now and then."""
        self.count += count
        self.reporter.advance(count)
        now = time.monotonic()
        if not self.reporter.moving and now - self.reported >= EVERY:
            self.reported = now
            self.reporter.note(kit.pace(self.count, self.total, now - self.started))

    @contextmanager
    def finish_block_on_interrupt(self) -> Iterator[None]:
        """Make Ctrl-C stop the run after the current block; pressed again, it stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(*_: object) -> None:
            if self.stop:
                raise KeyboardInterrupt
            self.stop = True
            self.reporter.note("Finishing the current block; press Ctrl-C again to stop at once.")

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
