"""Command ``cvx compare``: maps of several models, methods or targets on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cvx_core.cli.kit.console import Settings, installed_plugins, only_data, put_files
from cvx_core.cli.kit.options import (
    device_option,
    explainers_option,
    force_option,
    images_argument,
    labels_option,
    output_option,
    quiet_option,
    seed_option,
    trust_option,
    verbose_option,
)
from cvx_core.cli.kit.signals import SOME_FAILED
from cvx_core.errors import CvxError, InputError, OutputError, UsageError
from cvx_core.plugins.defaults import EXPLAINERS, MODEL

if TYPE_CHECKING:
    from cvx_core.cli.explain.plan import ImageRequest, NamedExplainer
    from cvx_core.explanations.explanation import Explanation
    from cvx_core.models.vision_model import VisionModel
    from cvx_core.tasks.targets import Target


@click.command(
    epilog=f"Examples: cvx compare cat.jpg -m a.py:net -m b.py:net   |   cvx compare cat.jpg "
    f"-m net.py:make --weights first.pth --weights last.pth -e {EXPLAINERS[0]} -t tabby"
)
@images_argument
@click.option(
    "-m",
    "--model",
    "models",
    metavar="MODEL",
    multiple=True,
    default=(MODEL,),
    show_default=True,
    help="Model: SOURCE, SOURCE:NAME, file.py:FACTORY or package.module:FACTORY; repeatable.",
)
@click.option(
    "--weights",
    metavar="WEIGHTS",
    multiple=True,
    help="Weights, as in 'cvx explain': several for one model, or one for each model, in order.",
)
@explainers_option(EXPLAINERS[:1])
@click.option(
    "-t",
    "--target",
    "targets",
    metavar="TARGET",
    multiple=True,
    help="Target; see 'cvx explain'; repeatable. Default: each method's own target.",
)
@labels_option
@click.option(
    "--colormap", metavar="NAME", help="Color map of matplotlib or cmcrameri, such as turbo."
)
@output_option("cvx-compare")
@trust_option
@device_option
@seed_option
@quiet_option
@force_option
@verbose_option
@click.pass_obj
def compare(
    settings: Settings,
    images: tuple[str, ...],
    models: tuple[str, ...],
    weights: tuple[str, ...],
    explainers: tuple[str, ...],
    targets: tuple[str, ...],
    labels: tuple[str, ...],
    colormap: str | None,
    folder: Any,
    trust_checkpoint: bool,
    device: str | None,
    seed: int,
    quiet: bool,
    force: bool,
    verbose: bool,
) -> int:
    """Draw maps of one image side by side, on one color scale.

    Draws a map for each combination of the given models, weights, methods and targets; at least
    two. IMAGES are as for 'cvx explain', or npz files of saved explanations to compare. Writes
    DIR/IMAGE.png for each image.
    """
    settings.verbose = settings.verbose or verbose
    with only_data():
        from cvx_core.cli.explain.plan import build_explainers, image_requests
        from cvx_core.cli.kit.model_loader import loaded_model
        from cvx_core.cli.kit.progress import Console
        from cvx_core.explanations.output_folder import Folder, Names, safe_stem
        from cvx_core.explanations.plots import compare as draw
        from cvx_core.explanations.results import load_explanations
        from cvx_core.tasks.catalogue import parse_target

        output, names = Folder(folder, force=force), Names()
        installed_plugins()
        saved = [one for one in images if one.lower().endswith(".npz")]
        if saved and len(saved) < len(images):
            raise UsageError("Got images and npz files.", "Pass either; npz files need no image.")
        failed = 0
        with Console(quiet=quiet, verbose=settings.verbose) as reporter:
            if saved:
                try:
                    loaded_maps = [e for one in saved for e in load_explanations(one)]
                except OutputError as error:  # an input here
                    raise InputError(error.message, error.hint) from error
                several = {"comparison.png": loaded_maps}
                _check_count(len(loaded_maps))
            else:
                named = build_explainers(explainers or EXPLAINERS[:1])
                parsed = [parse_target(text) for text in targets]
                pairs = _pairs(models, weights)
                _check_count(len(pairs) * len(named) * max(1, len(parsed)))
                requests = image_requests(images, labels)
                files = [f"{names.fresh(safe_stem(one.path.name))}.png" for one in requests]
                output.check(files)
                several = {file: [] for file in files}
                for model, one in pairs:
                    reporter.stage(f"loading {model}")
                    loaded = loaded_model(model, one, device, trust_checkpoint)
                    reporter.stage(f"explaining with {loaded.name}", total=len(requests))
                    for file, request in zip(files, requests, strict=True):
                        reporter.advance()
                        if file not in several:  # another model has failed on it
                            continue
                        try:
                            several[file] += _explained(loaded, request, named, parsed, seed)
                        except CvxError as error:
                            reporter.trouble(error, request.shown)
                            failed = error.exit_code
                            del several[file]
            for file, explanations in several.items():
                output.write(file, draw(explanations, colormap=colormap).png())
    put_files([output.path / name for name in output.written], settings.home)
    return failed if not output.written else SOME_FAILED if failed else 0


def _check_count(maps: int) -> None:
    if maps < 2:
        raise UsageError(
            f"compare needs two or more maps, got {maps}.",
            "Repeat -m, --weights, -e or -t; or give several npz files.",
        )


def _pairs(models: Sequence[str], weights: Sequence[str]) -> list[tuple[str, str | None]]:
    """Return each model with its weights."""
    if not weights:
        return [(model, None) for model in models]
    if len(models) == 1:
        return [(models[0], one) for one in weights]
    if len(models) != len(weights):
        raise UsageError(
            f"Got {len(models)} models and {len(weights)} weights.",
            "Give several weights for one model, or one for each model.",
        )
    return list(zip(models, weights, strict=True))


def _explained(
    model: VisionModel,
    request: ImageRequest,
    explainers: Sequence[NamedExplainer],
    targets: Sequence[Target],
    seed: int,
) -> list[Explanation]:
    from cvx_core.cli.explain.plan import read_label
    from cvx_core.explainers.runner import run

    label = read_label(request, model)
    return run(
        model,
        [request.read()],
        [one.explainer for one in explainers],
        [list(targets)] if targets else None,
        None if label is None else [label],
        seed,
    )
