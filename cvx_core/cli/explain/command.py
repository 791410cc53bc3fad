"""``cvx explain``: the options, and what they mean together."""

from __future__ import annotations

from pathlib import Path

import click

from cvx_core.cli.kit.console import Settings, only_data, put, put_files
from cvx_core.cli.kit.options import loading_options, model_option
from cvx_core.errors import UsageError
from cvx_core.plugins.defaults import EXPLAINERS, RENDERERS

# The names below stand in `cvx_core.cli.explain.run` too; importing it here would import torch
# for 'cvx explain --help'.
_DTYPES = ("float32", "float64", "bfloat16", "float16")


@click.command(
    epilog="Examples: cvx explain cat.jpg   |   cvx explain cat.jpg --label tabby   |   "
    f'cvx explain cat.jpg -e {EXPLAINERS[0]}:layer=layer3 -t "tabby vs tiger cat"'
)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_option
@click.option(
    "-e",
    "--explainer",
    "explainers",
    metavar="NAME[:KEY=VALUE,...]",
    multiple=True,
    help="A method; repeat for more. Without it, the four methods.",
)
@click.option(
    "-t",
    "--target",
    "targets",
    metavar="TARGET",
    multiple=True,
    help="What to ask: predicted, distribution, a class by name or index, 'CLASS vs CLASS', "
    "error, margin; of detectors 'box 2', 'missed LEFT,TOP,RIGHT,BOTTOM CLASS', of segmenters "
    "'region LEFT,TOP,RIGHT,BOTTOM CLASS', 'region MASK.png CLASS', "
    "'component X,Y', 'boundary X,Y', 'pixel X,Y'; repeat for more. "
    "Without it, each method asks its own question.",
)
@click.option(
    "--label",
    "labels",
    metavar="CLASS",
    multiple=True,
    help="The true class, or of a segmenter or detector a file with the truth: a mask, or boxes as "
    "COCO, VOC or YOLO; once for all images, or once for each, in order.",
)
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
@loading_options
@click.option("--dtype", type=click.Choice(_DTYPES), help="The precision to compute in.")
@click.option("--seed", default=0, show_default=True, help="Of all randomness in the methods.")
@click.option(
    "--sanity",
    is_flag=True,
    help="Check each map against those of random networks. Takes some fifty times as long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print run.json on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of every error.")
@click.pass_obj
def explain(
    settings: Settings,
    images: tuple[Path, ...],
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
    as_json: bool,
    quiet: bool,
    force: bool,
    verbose: bool,
) -> int:
    """Explain photographs and write what was found.

    Writes DIR/index.html for all images, DIR/IMAGE/METHOD.TARGET.png for each map, and
    DIR/run.json. Prints the file to open.
    """
    settings.verbose = settings.verbose or verbose
    if len(labels) not in (0, 1, len(images)):
        raise UsageError(
            f"There are {len(images)} images and {len(labels)} labels.",
            "Give --label once for all images, or once for each.",
        )
    with only_data():
        from cvx_core.cli.explain.plan import Subject
        from cvx_core.cli.explain.run import explain_to_folder
        from cvx_core.cli.kit.plugin_warnings import installed_plugins
        from cvx_core.cli.kit.progress import Console
        from cvx_core.explanations.output_folder import as_json as json_bytes
        from cvx_core.tasks.target_syntax import parse_target

        questions = tuple(parse_target(text) for text in targets)
        truths = labels * len(images) if len(labels) == 1 else labels or (None,) * len(images)
        subjects = [
            Subject(path, label, questions) for path, label in zip(images, truths, strict=True)
        ]
        installed_plugins()
        with Console(quiet=quiet, verbose=settings.verbose) as reporter:
            finished = explain_to_folder(
                subjects,
                folder,
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
                reporter=reporter,
            )
    if as_json:
        put(json_bytes(finished.document).decode().rstrip())
        return finished.exit_code
    put_files(finished.main_files, settings.home)
    return finished.exit_code
