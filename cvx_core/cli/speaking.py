"""What reaches the person: data on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import click

from cvx_core.errors import CvxError
from cvx_core.printable import printable


@dataclass
class Settings:
    """What was asked of the command line as a whole; click hands it to every verb.

    Attributes
    ----------
    verbose
        Whether errors come with their traceback.
    """

    verbose: bool = False


def complain(error: BaseException, *, verbose: bool = False, about: str = "") -> None:
    """Print an error on standard error: what happened, and on its own line the way out.

    Parameters
    ----------
    error
        A `CvxError`, or any other exception, which is then our fault.
    verbose
        Whether to print the traceback, with the causes, above it.
    about
        What it happened to, such as a file's name.
    """
    if verbose:
        import traceback

        for line in "".join(traceback.format_exception(error)).splitlines():
            click.echo(printable(line), err=True)
    if isinstance(error, CvxError):
        message, hint = error.message, error.hint
    else:
        message = f"internal error: {type(error).__name__}: {error}"
        hint = "" if verbose else "Run it again with 'cvx -v ...' for the traceback."
    first, *rest = [line for line in message.splitlines() if line.strip()] or [""]
    click.echo(f"cvx: {printable(about) + ': ' if about else ''}{printable(first)}", err=True)
    for line in [*rest, *hint.splitlines()]:
        # Indented, so that a line break in a file's name can't pass for a message of ours.
        click.echo(f"     {printable(line)}", err=True)


def put(text: str) -> None:
    """Print data on standard output; a reader that went away (``| head``) ends the program."""
    try:
        shown = printable(text) if sys.stdout.isatty() and "\n" not in text else text
        sys.stdout.buffer.write(shown.encode("utf-8", "surrogateescape") + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
        raise click.exceptions.Exit(1) from None


def silence_stdout() -> None:
    """Point standard output at nothing, so that Python's flush at exit stays quiet."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
