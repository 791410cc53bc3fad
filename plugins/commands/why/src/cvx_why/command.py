"""Command ``cvx why``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cvx_core import UsageError
from cvx_core.cli import kit


@click.command(
    "why",
    epilog="Examples: cvx why tool.jpg --label screwdriver   |   "
    "cvx why tool.jpg --label screwdriver --reference other.jpg --profile",
)
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--label",
    metavar="LABEL",
    required=True,
    help="Ground truth: a class by name or index, or an annotation file.",
)
@kit.model_option
@kit.output_option("cvx-why")
@click.option(
    "--budget",
    default=60,
    show_default=True,
    help="Maximum number of images in forward passes.",
)
@kit.memory_option
@click.option(
    "--error", default=0, show_default=True, help="Index of the mistake; 0 is the most costly."
)
@click.option(
    "--rival",
    metavar="CLASS",
    help="Explain this class versus the label, even if another class is predicted.",
)
@click.option(
    "--reference",
    "reference_image",
    metavar="IMAGE",
    type=click.Path(path_type=Path),
    help="Image of the true class, for a counterfactual.",
)
@click.option("--profile", is_flag=True, help="Report the contributions at each layer.")
@kit.loading_options
@kit.json_option("why.json")
@kit.quiet_option
@kit.force_option
@click.pass_obj
def command(
    settings: kit.Settings,
    /,
    image: Path,
    label: str,
    model: str,
    folder: Path,
    weights: str | None,
    trust_checkpoint: bool,
    device: str | None,
    as_json: bool,
    quiet: bool,
    force: bool,
    **options: Any,
) -> int:
    """Find the region of an image that causes a wrong prediction, tested by perturbation.

    Writes the report DIR/index.html with its maps, and DIR/why.json. Prints a summary and the
    paths of the files.
    """
    with kit.only_data():
        from cvx_core.cli import ImageRequest, read_label
        from cvx_core.explanations import Folder, encode_json as json_bytes
        from cvx_why.investigation import check_numbers, why
        from cvx_why.report.data import FILES

        check_numbers(options["budget"], options["memory"])
        Folder(folder, force=force).check(FILES)
        kit.installed_plugins()
        with kit.Console(quiet=quiet, verbose=settings.verbose) as reporter:
            reporter.stage("loading the model")
            loaded = kit.loaded_model(model, weights, device, trust_checkpoint)
            reporter.stage(f"perturbing {image.name}")
            subject = ImageRequest(image, label)
            truth = read_label(subject, loaded)
            if truth is None:
                raise UsageError(f"{label} has no label for {image.name}.", "Pass --label CLASS.")
            report = why(loaded, subject.read(), truth, **options)
    try:
        with kit.only_data():
            files = report.save(folder, overwrite=force)
    finally:  # a full disk must not cost the result
        kit.put(json_bytes(report.to_dict()).decode().rstrip() if as_json else report.text)
    if not as_json:
        for file in files:
            kit.put(str(file))
    return 0
