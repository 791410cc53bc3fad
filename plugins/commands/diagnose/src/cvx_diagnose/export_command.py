"""Command line of ``cvx diagnose export``."""

from __future__ import annotations

from pathlib import Path

import click

from cvx_core.cli import kit

FORMATS = ("cleanlab", "coco", "csv", "fiftyone", "label-studio")
"""As of `cvx_diagnose.report.exports`, which is imported when the command runs."""


@click.command("export", epilog="Example: cvx diagnose export cvx-diagnose --to label-studio")
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option("--to", "form", type=click.Choice(FORMATS), required=True, help="Format.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Output file. Default: RUN/fixes-FORMAT.json, or .csv.",
)
@click.option(
    "--images",
    default="",
    metavar="PREFIX",
    help="Prefix of the paths of images: a folder or a URL. Not used by fiftyone.",
)
@kit.force_option
def export(run: Path, form: str, output: Path | None, images: str, force: bool) -> int:
    """Write the fixes of a finished run for another tool.

    RUN is the folder of the run. Formats are the columns of cleanlab's Datalab, COCO annotations,
    CSV, a data set for FiftyOne, and tasks for Label Studio.
    """
    from cvx_core import write_atomic
    from cvx_diagnose.report.exports import export_file, export_fixes
    from cvx_diagnose.run.results import Run

    file = output or export_file(run, form)
    text = export_fixes(Run(run), form, images)
    write_atomic(file, text.encode(), overwrite=force)
    kit.put(str(file))
    return 0
