"""Progress of a run on the console."""

from __future__ import annotations

import time

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

    def advanced(self, count: int) -> None:
        """Advance the progress bar, or print a line now and then."""
        self.count += count
        self.reporter.advance(count)
        now = time.monotonic()
        if not self.reporter.moving and now - self.reported >= EVERY:
            self.reported = now
            self.reporter.note(kit.pace(self.count, self.total, now - self.started))

    def stopping(self) -> None:
        """Announce that the current block is finished first."""
        self.reporter.note("Finishing the current block; press Ctrl-C again to stop at once.")
