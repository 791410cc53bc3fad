"""Options of ``cvx explain``, and how they combine."""

from __future__ import annotations

from pathlib import Path

import click

from cvx_core.cli.kit.completion import complete_targets
from cvx_core.cli.kit.console import Settings, installed_plugins, only_data, put, put_files
from cvx_core.cli.kit.options import (
    explainers_option,
    force_option,
    images_argument,
    json_option,
    labels_option,
    loading_options,
    model_option,
    output_option,
    quiet_option,
    renderers_option,
    seed_option,
    verbose_option,
)
from cvx_core.plugins.defaults import EXPLAINERS, RENDERERS

# The names below stand in `cvx_core.cli.explain.run` too; importing it here would import torch
# for 'cvx explain --help'.
_DTYPES = ("float32", "float64", "bfloat16", "float16")


@click.command(
    epilog="Examples: cvx explain cat.jpg   |   cvx explain cat.jpg --label tabby   |   "
    f'cvx explain cat.jpg -e {EXPLAINERS[0]}:layer=layer3 -t "tabby vs tiger cat"'
)
@images_argument
@model_option
@explainers_option()
@click.option(
    "-t",
    "--target",
    "targets",
    metavar="TARGET",
    shell_complete=complete_targets,
    multiple=True,
    help="Target: predicted, distribution, a class by name or index, 'CLASS vs CLASS', "
    "error, margin, or 'error 1' for the second most costly mistake; for detectors: 'box 2', "
    "'missed LEFT,TOP,RIGHT,BOTTOM CLASS'; for segmenters: 'region LEFT,TOP,RIGHT,BOTTOM CLASS', "
    "'region MASK.png CLASS', 'component X,Y', 'boundary X,Y', 'pixel X,Y'; repeatable. "
    "Default: each method's own target.",
)
@labels_option
@renderers_option
@output_option("cvx-out")
@loading_options
@click.option("--dtype", type=click.Choice(_DTYPES), help="Floating-point precision.")
@seed_option
@click.option(
    "--sanity",
    is_flag=True,
    help="Run the installed checks, which compare each map with maps of randomly initialized "
    "networks; about 50 times slower.",
)
@click.option("--resume", is_flag=True, help="Continue the run in DIR, if there is one.")
@json_option("run.json")
@quiet_option
@force_option
@verbose_option
@click.pass_obj
def explain(
    settings: Settings,
    images: tuple[str, ...],
    model: str,
    explainers: tuple[str, ...],
    targets: tuple[str, ...],
    labels: tuple[str, ...],
    renderers: tuple[str, ...],
    folder: Path,
    weights: str | None,
    trust_checkpoint: bool,
    device: str | None,
    dtype: str | None,
    seed: int,
    sanity: bool,
    resume: bool,
    as_json: bool,
    quiet: bool,
    force: bool,
    verbose: bool,
) -> int:
    """Explain images: write maps, an HTML page and run.json.

    IMAGES are files, folders (with all folders below them), patterns such as 'photos/*.jpg', or
    URLs. Writes DIR/index.html for all images, DIR/IMAGE/METHOD.TARGET.png for each map, and
    DIR/run.json. Prints the path of the page.
    """
    settings.verbose = settings.verbose or verbose
    with only_data():
        from cvx_core.cli.explain.plan import image_requests
        from cvx_core.cli.explain.run import RunOptions, explain_to_folder
        from cvx_core.cli.kit.progress import Console
        from cvx_core.explanations.output_folder import encode_json
        from cvx_core.tasks.catalogue import parse_target

        parsed = tuple(parse_target(text) for text in targets)
        requests = image_requests(images, labels, parsed)
        installed_plugins()
        with Console(quiet=quiet, verbose=settings.verbose) as reporter:
            options = RunOptions(
                model=model,
                explainers=explainers or None,
                renderers=renderers or RENDERERS,
                weights=weights,
                trust_checkpoint=trust_checkpoint,
                device=device,
                dtype=dtype,
                seed=seed,
                sanity=sanity,
                force=force,
                resume=resume,
            )
            finished = explain_to_folder(requests, folder, options, reporter)
    if as_json:
        put(encode_json(finished.document).decode().rstrip())
        return finished.exit_code
    put_files(finished.main_files, settings.home)
    return finished.exit_code
