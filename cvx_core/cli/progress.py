"""What a run says while it works."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from cvx_core.cli.speaking import complain, say
from cvx_core.printable import printable


class Reporter:
    """Hears how a run goes, and says nothing; `Console` says it on standard error."""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def stage(self, text: str, total: int | None = None) -> None:
        """Say what is being done now, and how many steps it has, if that is known."""

    def advance(self) -> None:
        """Say that one step is done."""

    def note(self, text: str) -> None:
        """Say something that is worth knowing and no error."""

    def trouble(self, error: BaseException, about: str = "") -> None:
        """Say that something failed while the run goes on."""


class Console(Reporter):
    """Messages on standard error, with a moving bar if that is a terminal and rich is there.

    Parameters
    ----------
    quiet
        Say nothing but errors.
    verbose
        Print the traceback of errors.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet, self._verbose = quiet, verbose
        self._bar: Any = None if quiet else _bar()
        self._task: Any = None

    def __enter__(self) -> Console:
        self._shown().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shown().__exit__(kind, error, trace)

    def _shown(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._bar is None else self._bar

    def stage(self, text: str, total: int | None = None) -> None:
        """Name the bar, and start it anew."""
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(printable(text), total=total)

    def advance(self) -> None:
        """Move the bar by one step."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

    def note(self, text: str) -> None:
        """Print a line, unless quiet."""
        if not self._quiet:
            say(printable(text))

    def trouble(self, error: BaseException, about: str = "") -> None:
        """Print an error, also when quiet."""
        complain(error, verbose=self._verbose, about=about)


def _bar() -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from rich import console, progress
    except ImportError:  # rich comes with a plugin, and the core does without
        return None
    return progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TimeElapsedColumn(),
        console=console.Console(stderr=True),
        transient=True,
    )
