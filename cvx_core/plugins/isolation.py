"""Error boundary around foreign code: a plugin or a model may raise anything, and exit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cvx_core.errors import CvxError

REPORT = "Report it to the plugin's author; 'cvx plugins' names the package."
"""The way out of a failure that is a plugin's own."""


def message(error: BaseException) -> str:
    """Return the text of an exception, whose ``__str__`` may raise too."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return "(its message can't be read)"


def describe_error(error: BaseException) -> str:
    """Return an exception's type and the first line of its text.

    Examples
    --------
    >>> describe_error(ValueError("two sizes\\nand a page about them"))
    'ValueError: two sizes'
    """
    lines = [line for line in message(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


@contextmanager
def error_boundary(
    failed: Callable[[str], CvxError], passing: tuple[type[BaseException], ...] = (CvxError,)
) -> Iterator[None]:
    """Convert any exception raised inside, including `SystemExit`, into a `CvxError`.

    Parameters
    ----------
    failed
        From what was raised, in words (`describe_error`), to the error.
    passing
        What goes through as it is; Ctrl-C always does.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, *passing)):
            raise
        raise failed(describe_error(error)) from error
