"""Command ``cvx demo``: explanations of two photographs that come with the plugin."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cvx_core.cli import kit
from cvx_embedded.photographs import photographs

WHAT_TO_SEE = """\
Open it in a browser; click to switch between photographs and between methods.
  {fish}: {fish_caption}
     The evidence for the two classes overlaps. With the target "anemone fish vs sea anemone",
     only the fish stays red in class-attention and activation-error.
  {tool}: {tool_caption}
     activation-error shows that the pistol grip supports "power drill", and that the upper end of
     the straight one weakly opposes it.
For an image of your own: {cvx} explain IMAGE --label CLASS"""


@click.command()
@kit.output_option("cvx-demo")
@kit.force_option
@kit.quiet_option
@click.pass_obj
def demo(settings: kit.Settings, folder: Path, force: bool, quiet: bool) -> int:
    """Explain two sample images and describe the results.

    Runs offline: the images and the model weights are included.
    Writes DIR/index.html, a figure of each map, and DIR/run.json. Prints the path of the page.
    """
    with kit.only_data():
        from cvx_core.cli import ImageRequest, RunOptions, explain_to_folder
        from cvx_core.tasks import ClassScore, Contrast

        fish, tool = photographs()
        both = "anemone fish", "sea anemone"
        images = [
            ImageRequest(fish.path, None, (Contrast(*both), *map(ClassScore, both))),
            ImageRequest(tool.path, tool.label),
        ]
        kit.installed_plugins()
        with kit.Console(quiet=quiet, verbose=settings.verbose) as reporter:
            options = RunOptions(model="embedded", force=force)
            finished = explain_to_folder(images, folder, options, reporter)
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
