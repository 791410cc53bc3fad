"""The command line, ``cvx``.

Nothing here imports torch, numpy or a plugin before a verb is called that needs it, so that
``cvx --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from cvx_core.cli.speaking import Settings, complain, silence_stdout
from cvx_core.cli.verbs import group
from cvx_core.errors import CvxError
from cvx_core.printable import printable

INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    args
        Without the program's name; None takes them from `sys.argv`.

    Returns
    -------
    int
        0 fine, 1 our fault, 2 usage, 3 no readable input, 4 some inputs failed, 5 model or
        weights, 6 plugin, 130 interrupted.
    """
    settings = Settings()
    try:
        code = group.main(args=args, prog_name="cvx", standalone_mode=False, obj=settings)
        sys.stdout.flush()
    except CvxError as error:
        complain(error, verbose=settings.verbose)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        usage = error.ctx.get_usage() + "\n" if error.ctx is not None else ""
        click.echo(f"{usage}cvx: {printable(error.format_message())}", err=True)
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"cvx: {printable(error.format_message())}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("cvx: interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        silence_stdout()
        return 1
    # The last boundary: whatever arrives here is our fault, and a person wants one line.
    except Exception as error:
        complain(error, verbose=settings.verbose)
        return 1
    return code if type(code) is int else 0
