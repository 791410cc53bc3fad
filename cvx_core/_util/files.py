"""Regular files: checked reads, and atomic writes that replace nothing silently."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from cvx_core.errors import InputError, OutputError

MAX_BYTES = 512 * 1024**2
"""Files that are larger are not read."""


def is_file(path: str | Path) -> bool:
    """Whether a path is a regular file; false for names that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113 - Path's raises if the name is too long


def read_bytes(path: Path, shown: str = "", way_out: str = "Check the path.") -> bytes:
    """Return the content of a regular file.

    Parameters
    ----------
    path
        The file.
    shown
        What messages call it, if not by its path.
    way_out
        What else may be given in its place.

    Raises
    ------
    InputError
        If it was not found, is not a regular file (opening a pipe would wait forever), is too
        large, or can't be read.
    """
    shown = shown or str(path)
    try:
        if path.is_dir():
            raise InputError(f"Expected a file, got the folder {shown}.", "Name the files in it.")
        if not path.is_file():
            raise InputError(no_file(path, shown), way_out)
        if path.stat().st_size > MAX_BYTES:
            raise InputError(
                f"{shown} is larger than {MAX_BYTES // 1024**2} MB.", "Shrink or split it first."
            )
        # Files without a size hold nothing, or are made up while they are read (those of /proc),
        # which may wait forever.
        return path.read_bytes() if path.stat().st_size else b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{shown!r} could not be read: {reason}.", way_out) from error


def no_file(path: Path, shown: str) -> str:
    """Return the message about a path that is not a regular file."""
    there = os.path.exists(path)  # noqa: PTH110 - Path's raises if the name is too long
    return f"Not a regular file: {shown}." if there else f"File not found: {shown}."


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8.

    Raises
    ------
    InputError
        If it can't be read or decoded.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"Not UTF-8 text: {path}.", "Save it as UTF-8.") from error


def write_atomic(path: Path, data: bytes, *, overwrite: bool = False) -> Path:
    """Write a file atomically: an existing file stays until the new one is complete.

    The data goes to a temporary file in the same folder, is flushed to disk, and then takes
    the name in one step. Without `overwrite` an existing file is never touched, also when
    another process creates it meanwhile.

    Raises
    ------
    OutputError
        If the file exists and `overwrite` is false, or the disk refuses.
    """
    if not overwrite and os.path.lexists(path):
        raise _exists(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".cvx-", suffix=".tmp")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        if overwrite:
            Path(temporary).replace(path)
        else:
            _claim(temporary, path)
        temporary = ""
        _sync_folder(path.parent)
    # ValueError: a name that no file can have (a null byte in it).
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"{path} could not be written: {reason}.",
            "Nothing of this file was left behind; choose another folder with -o or make room.",
        ) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
    return path


def _exists(path: Path) -> OutputError:
    return OutputError(
        f"File already exists: {path}.",
        "Pass overwrite=True (--force on the command line), or write elsewhere.",
    )


def _claim(temporary: str, path: Path) -> None:
    try:
        os.link(temporary, path)  # fails if the name is taken, unlike a rename
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise _exists(path) from None
        Path(temporary).replace(path)
    else:
        Path(temporary).unlink()


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system lets a folder be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    # os.umask can only be read by setting it, which would race with other threads.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0o022
    for line in status.splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
