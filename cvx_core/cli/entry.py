"""The command line, ``cvx``.

Nothing here imports torch, numpy or the command of a plugin before it is called, so that
``cvx --help`` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence
from types import TracebackType

import click

from cvx_core._util.text import printable
from cvx_core.cli.kit.console import (
    Settings,
    complain,
    no_output,
    open_missing_streams,
    say,
    silence,
)
from cvx_core.cli.kit.signals import heeding_signals, interruption_code
from cvx_core.cli.program import group
from cvx_core.errors import CvxError, ModelError, PluginError
from cvx_core.plugins.isolation import REPORT, describe_error


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    args
        Without the program's name; None takes them from `sys.argv`.

    Returns
    -------
    int
        0 fine, 1 internal error, 2 usage, 3 no readable input, 4 some inputs failed, 5 model or
        weights, 6 plugin, 7 requirement not met, 130 interrupted (129 and 143 by the signals SIGHUP
        and SIGTERM).
    """
    open_missing_streams()
    if args is None:
        # Otherwise Python searches all that torch has made for cycles once more before it ends,
        # which takes seconds.
        atexit.register(gc.freeze)
    settings = Settings()
    try:
        with heeding_signals():
            code = group.main(args=args, prog_name="cvx", standalone_mode=False, obj=settings)
            sys.stdout.flush()
    except CvxError as error:
        complain(error, verbose=settings.verbose)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return error.exit_code
    except click.UsageError as error:
        usage = error.ctx.get_usage() + "\n" if error.ctx is not None else ""
        say(f"{usage}cvx: {printable(error.format_message())}")
        return error.exit_code
    except click.ClickException as error:
        say(f"cvx: {printable(error.format_message())}")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        say("cvx: interrupted")
        return interruption_code(error)
    except BrokenPipeError:
        silence(sys.stdout.fileno())
        return 1
    # The last boundary: whatever arrives here is nobody's answer, and a person wants one line.
    except BaseException as error:
        if isinstance(error, SystemExit) and _raised_by_click(error.__traceback__):
            if error.code == 0:  # its way to end the completion in a shell
                return 0
            silence(sys.stdout.fileno())  # its way to say that the reader went away
            return 1
        blamed = _blamed(error, settings)
        complain(blamed, verbose=settings.verbose)
        return blamed.exit_code if isinstance(blamed, CvxError) else 1
    return code if type(code) is int else 0


def _blamed(error: BaseException, settings: Settings) -> BaseException:
    """Return an exception as the error of whoever caused it; unchanged, it is an internal error."""
    told_of: CvxError
    if isinstance(error, OSError) and not _stdout_works():
        told_of = no_output(error)
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        told_of = ModelError(
            f"Out of memory ({describe_error(error)}).",
            "Use smaller images, a smaller model or another --device.",
        )
    elif settings.command:
        told_of = PluginError(
            f"The command {settings.command!r} failed: {describe_error(error)}", REPORT
        )
    elif not isinstance(error, Exception):
        told_of = PluginError(
            f"A plugin or model exited the program: {describe_error(error)}", REPORT
        )
    else:
        return error
    told_of.__cause__ = error
    return told_of


def _stdout_works() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _raised_by_click(trace: TracebackType | None) -> bool:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "click.core"
