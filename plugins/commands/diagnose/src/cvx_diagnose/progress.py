"""How fast a run goes, and when it will be done."""

from __future__ import annotations

import time

from cvx_engine import Listener

from cvx_core.cli import kit

EVERY = 15.0
"""Seconds between two lines where there is no terminal to draw a bar on."""


class Pace(Listener):
    """Tells a reporter how far a run has come.

    Parameters
    ----------
    reporter
        Who says it.
    """

    def __init__(self, reporter: kit.Reporter) -> None:
        self.reporter = reporter
        self.total = self.count = 0
        self.started = self.said = time.monotonic()

    def begins(self, total: int) -> None:
        """Start the bar."""
        self.total, self.started = total, time.monotonic()
        self.said = self.started
        self.reporter.stage("diagnosing", total=total)

    def advanced(self, count: int) -> None:
        """Move the bar, or say a line now and then."""
        self.count += count
        self.reporter.advance(count)
        now = time.monotonic()
        if not self.reporter.moving and now - self.said >= EVERY:
            self.said = now
            self.reporter.note(kit.pace(self.count, self.total, now - self.started))

    def stopping(self) -> None:
        """Say that what has begun is finished first."""
        self.reporter.note("Finishing the block at work; Ctrl-C again ends at once.")
