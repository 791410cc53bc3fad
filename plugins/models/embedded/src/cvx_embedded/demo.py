"""``cvx demo``: the main job on two photographs that come with the plugin."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cvx_core.cli import kit
from cvx_embedded.photographs import photographs

WHAT_TO_SEE = """\
Open it in a browser; one click leads from photograph to photograph and from method to method.
  {fish}: {fish_caption}
     What speaks for each of the two overlaps; asked why one rather than the other, in
     class-attention and activation-error only the fish remains.
  {tool}: {tool_caption}
     activation-error shows that the pistol grip speaks for the drill, and the upper end of the
     straight one weakly against it.
The same for a photograph of yours: {cvx} explain PHOTOGRAPH --label CLASS"""


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="DIR",
    default="cvx-demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where to write.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.pass_obj
def demo(settings: kit.Settings, folder: Path, force: bool, quiet: bool) -> int:
    """Explain two photographs and say what there is to see.

    Needs no network and no files: the photographs and the network's weights are installed.
    Writes DIR/index.html, a picture of each map, and DIR/run.json. Prints the file to open.
    """
    with kit.only_data():
        from cvx_core.cli import Subject, explain_to_folder
        from cvx_core.tasks import ClassScore, Contrast

        fish, tool = photographs()
        both = "anemone fish", "sea anemone"
        subjects = [
            Subject(fish.path, None, (Contrast(*both), *map(ClassScore, both))),
            Subject(tool.path, tool.label),
        ]
        kit.installed_plugins()
        with kit.Console(quiet=quiet, verbose=settings.verbose) as reporter:
            finished = explain_to_folder(
                subjects, folder, model="embedded", force=force, reporter=reporter
            )
    for file in finished.main_files:
        kit.put(str(file))
    if not quiet and finished.exit_code == 0:
        click.echo(
            WHAT_TO_SEE.format(
                cvx=_as_called(),
                fish=fish.path.name,
                fish_caption=fish.caption,
                tool=tool.path.name,
                tool_caption=tool.caption,
            ),
            err=True,
        )
    return finished.exit_code


def _as_called() -> str:
    """Return the words that call cvx here, to be typed again."""
    # uv runs a command in an environment that the person's shell doesn't know.
    return "uv run cvx" if "UV_RUN_RECURSION_DEPTH" in os.environ else "cvx"
