"""Lock on the folder of a run: one run at a time, or one for each shard."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cvx_core import OutputError, UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_handles: set[int] = set()


def _close_inherited() -> None:
    """Close handles that a fork inherited; they would keep the lock after its parent ends."""
    for handle in _handles:
        os.close(handle)
    _handles.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


@contextmanager
def run_lock(folder: Path, shard: tuple[int, int]) -> Iterator[None]:
    """Lock a folder for one run; shards share it, each run once.

    The operating system releases the lock when the process ends, also if it is killed. On systems
    without such locks (Windows) nothing is locked.

    Raises
    ------
    UsageError
        If another process has the lock.
    OutputError
        If the folder is not writable.
    """
    i, n = shard
    with ExitStack() as locks:
        if fcntl is not None:
            whole = n == 1
            locks.enter_context(_lock(folder / ".lock", shared=not whole))
            if not whole:
                locks.enter_context(_lock(folder / f".lock-{i}-of-{n}", shared=False))
        yield


@contextmanager
def _lock(file: Path, *, shared: bool) -> Iterator[None]:
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise OutputError(
            f"Can't write {file}: {error.strerror}.", "Choose another folder with -o."
        ) from error
    _handles.add(handle)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UsageError(
            f"Another run is using {file.parent}.",
            "Wait for it, or choose another folder with -o. Several machines can share one folder "
            "if each runs its own shard: --shard 0/4, 1/4, ...",
        ) from error
    finally:
        _handles.discard(handle)
        os.close(handle)
