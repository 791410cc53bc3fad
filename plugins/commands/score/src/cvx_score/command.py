"""Command ``cvx score``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cvx_core import UsageError
from cvx_core.cli import kit
from cvx_core.plugins import EXPLAINERS


@click.command(
    "score",
    epilog="Examples: cvx score tool.jpg -e grad-cam -e activation-error   |   "
    "cvx score tool.jpg -e grad-cam --region 40,60,300,420 --measure pointing",
)
@kit.images_argument
@kit.model_option
@kit.explainers_option()
@click.option(
    "--measure",
    "measures",
    metavar="NAME",
    multiple=True,
    help="insertion, deletion, road, road-lerf, completeness, amounts, randomization; "
    "with --region pointing, mass, rank. Repeatable. Default: all but amounts and randomization.",
)
@click.option(
    "-t",
    "--target",
    "target",
    metavar="TARGET",
    shell_complete=kit.complete_targets,
    help="Target of all maps; see 'cvx explain'. Default: the predicted class.",
)
@kit.labels_option
@click.option(
    "--region",
    "regions",
    metavar="REGION",
    multiple=True,
    help="Region where maps should point: LEFT,TOP,RIGHT,BOTTOM in pixels of the image, corners "
    "'X,Y X,Y X,Y', or a mask file. Pass it once for all images, or once per image in order.",
)
@kit.output_option("cvx-score")
@click.option("--steps", default=50, show_default=True, help="Steps of insertion and deletion.")
@click.option(
    "--within",
    default=0.01,
    show_default=True,
    help="Tolerance of the area under the curve; larger values run fewer steps, 0 runs all.",
)
@click.option(
    "--quantity",
    type=click.Choice(["probability", "logit"]),
    help="Quantity to measure. Default: the probability if the target is one class; otherwise the "
    "logit.",
)
@kit.memory_option
@kit.seed_option
@kit.loading_options
@kit.json_option("score.json")
@kit.quiet_option
@kit.force_option
@click.pass_obj
def command(
    settings: kit.Settings,
    /,
    images: tuple[str, ...],
    model: str,
    explainers: tuple[str, ...],
    measures: tuple[str, ...],
    target: str | None,
    labels: tuple[str, ...],
    regions: tuple[str, ...],
    folder: Path,
    seed: int,
    weights: str | None,
    trust_checkpoint: bool,
    device: str | None,
    as_json: bool,
    quiet: bool,
    force: bool,
    **options: Any,
) -> int:
    """Measure how faithful maps are.

    Prints a table of methods and measures. Writes DIR/score.json with the values and curves of each
    image, and DIR/curves.png with the mean curves of insertion, deletion and ROAD.
    """
    with kit.only_data():
        from cvx_core.cli import build_explainers, image_requests, read_label
        from cvx_core.explanations import Folder, encode_json as json_bytes
        from cvx_core.images import parse_region
        from cvx_core.tasks import parse_target
        from cvx_score.curve_figure import curve_figure, png
        from cvx_score.evaluation import score
        from cvx_score.report import CURVES, FILE, document, table

        output = Folder(folder, force=force)
        output.check([FILE, CURVES])
        kit.installed_plugins()
        parsed = [parse_region(text) for text in regions]
        subjects = image_requests(images, labels)
        if len(regions) not in (0, 1, len(subjects)):
            raise UsageError(
                f"There are {len(subjects)} images and {len(regions)} regions.",
                "Give --region once for all images, or once for each.",
            )
        requested = build_explainers(explainers or EXPLAINERS)
        with kit.Console(quiet=quiet, verbose=settings.verbose) as reporter:
            reporter.stage("loading the model")
            loaded = kit.loaded_model(model, weights, device, trust_checkpoint)
            reporter.stage(f"scoring the maps of {len(subjects)} image{'s'[: len(subjects) > 1]}")
            sources = [subject.read() for subject in subjects]
            scores = score(
                loaded,
                sources,
                {one.title: one.explainer for one in requested},
                None if target is None else parse_target(target),
                [read_label(subject, loaded) for subject in subjects] if labels else None,
                measures=measures or None,
                regions=parsed[0] if len(parsed) == 1 else parsed or None,
                seed=seed,
                **options,
            )
        figure = curve_figure(scores)
        written = json_bytes(document(scores, loaded, sources, target or "predicted", seed))
    try:
        output.write(FILE, written)
        if figure is not None:
            output.write(CURVES, png(figure))
        else:
            (folder / CURVES).unlink(missing_ok=True)  # of an earlier run, with --force
    finally:  # a full disk must not cost the result
        kit.put(written.decode().rstrip() if as_json else table(scores))
    if not as_json:
        for name in (FILE,) if figure is None else (CURVES, FILE):
            kit.put(str(folder / name))
    return 0
