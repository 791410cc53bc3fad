"""Progress of a run, on standard error."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

from cvx_core._util.text import printable
from cvx_core.cli.kit.console import complain, say
from cvx_core.errors import CvxWarning

_TELLING = 10
"""Steps from which on it is said how fast they go."""


def pace(done: int, total: int, seconds: float) -> str:
    """Return how far work has come, how fast it goes, and how long it will take.

    Examples
    --------
    >>> pace(512, 2048, 10.0)
    '512 of 2,048, 51.2/s, 30 s left'
    """
    rate = max(done / max(seconds, 1e-9), 1e-9)
    left = (total - done) / rate
    shown = f"{left / 3600:.1f} h"
    if left < 7200:
        shown = f"{left / 60:.0f} min" if left >= 120 else f"{left:.0f} s"
    return f"{done:,} of {total:,}, {rate:.3g}/s, {shown} left"


class Reporter:
    """Receives the progress of a run and prints nothing; `Console` prints it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def stage(self, text: str, total: int | None = None) -> None:
        """Say what is being done now, and how many steps it has, if that is known."""

    def advance(self, count: int = 1) -> None:
        """Say that steps are done."""

    @property
    def moving(self) -> bool:
        """Whether there is a bar that shows the steps."""
        return False

    def note(self, text: str) -> None:
        """Say something that is worth knowing and no error."""

    def trouble(self, error: BaseException, about: str = "") -> None:
        """Say that something failed while the run goes on."""


class Console(Reporter):
    """Messages on standard error, with a moving bar if that is a terminal and rich is there.

    While it is open, warnings of cvx are notes, each once; those of libraries are left out unless
    verbose.

    Parameters
    ----------
    quiet
        Only print errors.
    verbose
        Print the traceback of errors.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet, self._verbose = quiet, verbose
        self._bar: Any = None if quiet else _bar()
        self._task: Any = None
        self._stack = ExitStack()
        self._warned: set[str] = set()

    def __enter__(self) -> Self:
        self._stack.enter_context(warnings.catch_warnings())
        self._show: Callable[..., None] = warnings.showwarning
        warnings.showwarning = self._warn  # type: ignore[assignment]
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._stack.close()

    def _warn(self, message: Warning | str, category: type[Warning], *where: Any) -> None:
        text = str(message)
        if issubclass(category, CvxWarning):
            if text not in self._warned:
                self._warned.add(text)
                self.note(f"cvx: {text}")
        elif self._verbose:
            self._show(message, category, *where)

    def stage(self, text: str, total: int | None = None) -> None:
        """Name the bar, and start it anew."""
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(printable(text), total=total)

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)

    @property
    def moving(self) -> bool:
        """Whether there is a bar that shows the steps."""
        return self._bar is not None

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
        from rich import console, progress, text
    except ImportError:  # rich comes with a plugin, and the core does without
        return None

    class Pace(progress.ProgressColumn):
        def render(self, task: Any) -> text.Text:
            if task.total is None or task.completed < _TELLING:
                return text.Text("")
            return text.Text(pace(int(task.completed), int(task.total), task.elapsed or 0.0))

    return progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TimeElapsedColumn(),
        Pace(),
        console=console.Console(stderr=True),
        transient=True,
    )
