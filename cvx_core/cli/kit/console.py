"""Console output: data on standard output, everything else on standard error."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

import click

from cvx_core._util.text import printable
from cvx_core.errors import CvxError, OutputError
from cvx_core.plugins.component_registry import Registry
from cvx_core.plugins.discovery import registry
from cvx_core.plugins.isolation import describe_error

if TYPE_CHECKING:
    from pathlib import Path


def _working_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return ""


@dataclass
class Settings:
    """Options of the whole command line; click passes them to every command.

    Attributes
    ----------
    verbose
        Whether errors come with their traceback.
    command
        Name of the command that runs, if it is a plugin's.
    """

    verbose: bool = False
    command: str = ""
    _home: str = field(default_factory=_working_folder)

    @property
    def home(self) -> Path:
        """Where the program was called; empty if that folder was deleted meanwhile."""
        from pathlib import Path  # its import takes long, and the help needs none

        return Path(self._home)


def say(text: str) -> None:
    """Print text on standard error, if that can be written to; spaces and line breaks stay."""
    try:
        click.echo(re.sub(r"[^ \n]+", lambda word: printable(word[0]), text), err=True)
    except OSError:
        silence(sys.stderr.fileno())


def complain(error: BaseException, *, verbose: bool = False, about: str = "") -> None:
    """Print an error on standard error: what happened, and on its own line the way out.

    Parameters
    ----------
    error
        A `CvxError`, or any other exception, which is an internal error.
    verbose
        Whether to print the traceback, with the causes, above it.
    about
        What it happened to, such as a file's name.
    """
    if verbose:
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            say(printable(line))
    if isinstance(error, CvxError):
        message, hint = error.message, error.hint
    else:
        message = f"internal error: {describe_error(error)}"
        hint = "" if verbose else "Run it again with 'cvx -v ...' for the traceback."
    first, *rest = [line for line in message.splitlines() if line.strip()] or [""]
    say(f"cvx: {printable(about) + ': ' if about else ''}{printable(first)}")
    for line in [*rest, *hint.splitlines()]:
        # Indented, so that a line break in a file's name can't pass for a message of ours.
        say(f"     {printable(line)}")


def put(text: str) -> None:
    """Print data on standard output; a reader that went away (``| head``) ends the program.

    Raises
    ------
    OutputError
        If standard output can't be written to.
    """
    try:
        shown = printable(text) if sys.stdout.isatty() and "\n" not in text else text
        sys.stdout.buffer.write(shown.encode("utf-8", "surrogateescape") + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout.fileno())
        raise click.exceptions.Exit(1) from None
    except OSError as error:
        raise no_output(error) from error


def put_files(files: Iterable[Path], home: Path) -> None:
    """Print the names of files, and the content of pages of plain text: they are to be read here.

    Parameters
    ----------
    files
        As they are shown.
    home
        What they are relative to.
    """
    for file in files:
        if file.suffix == ".txt":
            put((home / file).read_bytes().decode("utf-8", "replace").rstrip("\n"))
        else:
            put(str(file))


def no_output(error: OSError) -> OutputError:
    """Return the error for a standard output that fails, having given it up."""
    silence(sys.stdout.fileno())
    return OutputError(
        f"Standard output can't be written to: {error.strerror or describe_error(error)}."
    )


def silence(stream: int) -> None:
    """Point an output at nothing, so that Python's flush at exit stays quiet."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream)
    os.close(nowhere)


def open_missing_streams() -> None:
    """Open what the caller closed (``>&-``), so that no file of ours takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def installed_plugins() -> Registry:
    """Return the registry, having said which plugins were left out and why."""
    plugins = registry()
    for failure in plugins.failures:
        reason = printable(f"{failure.owner} was left out ({failure.reason})")
        say(f"cvx: plugin {reason}")
    return plugins


@contextmanager
def only_data() -> Iterator[None]:
    """Send to standard error what anybody writes to standard output inside, also in C.

    Output of plugins, models and libraries is not data of cvx.
    """
    _flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _flush(libraries=True)
        os.dup2(kept, 1)
        os.close(kept)


def _compiled_code() -> bool:
    """Whether a module that is not of Python itself may have run C code."""
    suffixes = tuple(EXTENSION_SUFFIXES)
    return "ctypes" in sys.modules or any(
        str(getattr(module, "__dict__", {}).get("__file__")).endswith(suffixes)
        and name.partition(".")[0] not in sys.stdlib_module_names
        for name, module in list(sys.modules.items())
    )


def _flush(*, libraries: bool = False) -> None:
    for stream in (sys.stdout, sys.__stdout__):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    # For the help alone, loading ctypes would take longer than the rest.
    if libraries and _compiled_code():
        import ctypes

        # What C code printed waits in a buffer of its own. Windows has no library called None.
        with suppress(OSError, TypeError, AttributeError):
            ctypes.CDLL(None).fflush(None)
