"""Signals as in a terminal, whatever started the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_HANDLERS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGTERM: signal.SIG_DFL,
}


def reset_signals() -> None:
    """Stop ignoring signals: a `preexec_fn` for processes to which a test sends some.

    Under nohup and in background jobs SIGHUP and SIGINT are ignored, and processes inherit that.
    """
    for number, handler in _HANDLERS.items():
        signal.signal(number, handler)


@contextmanager
def signals_reset() -> Iterator[None]:
    """Stop ignoring signals in this process for a while."""
    before = {number: signal.getsignal(number) for number in _HANDLERS}
    reset_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
