"""``cvx render``: draw saved explanations again."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from cvx_core.cli.speaking import Settings, complain, put
from cvx_core.errors import CvxError, InputError, OutputError

SOME_FAILED = 4


@click.command()
@click.argument("saved", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-r",
    "--renderer",
    "renderers",
    metavar="NAME[:KEY=VALUE,...]",
    multiple=True,
    help="How to draw; repeat for more. Without it, html and figure.",
)
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="DIR",
    default="cvx-out",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where to write.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of every error.")
@click.pass_obj
def render(
    settings: Settings,
    saved: tuple[Path, ...],
    renderers: tuple[str, ...],
    folder: Path,
    force: bool,
    verbose: bool,
) -> int:
    """Draw saved explanations again.

    SAVED are npz files, written by 'cvx explain -r npz' or Explanation.save(). No model is
    needed. Prints the file to open.
    """
    settings.verbose = settings.verbose or verbose
    with redirect_stdout(sys.stderr):
        from cvx_core.cli.explaining import RENDERERS, build_renderers
        from cvx_core.cli.installed import installed_plugins
        from cvx_core.cli.output import Drawing
        from cvx_core.cli.redrawing import redraw
        from cvx_core.storage import load_explanations

        installed_plugins()
        drawing = Drawing(build_renderers(renderers or RENDERERS))
        explanations, failed = [], False
        for path in saved:
            try:
                explanations += load_explanations(path)
            except OutputError as error:
                complain(error, verbose=settings.verbose)
                failed = True
        if not explanations:
            raise InputError("There are no saved explanations to draw.")
        files, problems = redraw(explanations, drawing, folder, force=force)
        for problem in problems:
            complain(problem, verbose=settings.verbose)
    for file in files:
        put(file.read_text("utf-8").rstrip("\n") if file.suffix == ".txt" else str(file))
    return _exit_code(problems, failed)


def _exit_code(problems: list[CvxError], failed: bool) -> int:
    if problems and not failed:
        return problems[0].exit_code
    return SOME_FAILED if failed else 0
