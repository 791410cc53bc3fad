"""Command ``cvx render``: saved explanations drawn again."""

from __future__ import annotations

from pathlib import Path

import click

from cvx_core.cli.kit.console import Settings, complain, installed_plugins, only_data, put_files
from cvx_core.cli.kit.options import force_option, output_option, renderers_option, verbose_option
from cvx_core.cli.kit.signals import SOME_FAILED
from cvx_core.errors import InputError, OutputError


@click.command()
@click.argument("saved", nargs=-1, required=True, type=click.Path(path_type=Path))
@renderers_option
@output_option("cvx-out")
@force_option
@verbose_option
@click.pass_obj
def render(
    settings: Settings,
    saved: tuple[Path, ...],
    renderers: tuple[str, ...],
    folder: Path,
    force: bool,
    verbose: bool,
) -> int:
    """Render saved explanations.

    SAVED are npz files, written by 'cvx explain -r npz' or Explanation.save(). No model is
    needed. Prints the path of the page.
    """
    settings.verbose = settings.verbose or verbose
    with only_data():
        from cvx_core.cli.explain.run import build_renderers
        from cvx_core.cli.render.redraw import redraw
        from cvx_core.explanations.output_folder import Drawing, Folder
        from cvx_core.explanations.results import Explanations, load_explanations
        from cvx_core.plugins.defaults import RENDERERS

        # Before any plugin's code runs: it may change the working folder.
        target = Folder(folder, force=force)
        explanations, failed = Explanations(), False
        for path in saved:
            try:
                explanations += load_explanations(path)
            except OutputError as error:
                complain(error, verbose=settings.verbose)
                failed = True
        if not explanations:
            raise InputError("No saved explanations to draw.")
        installed_plugins()
        drawing = Drawing(build_renderers(renderers or RENDERERS))
        files, problems = redraw(explanations, drawing, target)
        for problem in problems:
            complain(problem, verbose=settings.verbose)
    put_files(files, settings.home)
    if failed:
        return SOME_FAILED
    return problems[0].exit_code if problems else 0
