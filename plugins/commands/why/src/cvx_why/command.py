"""``cvx why`` on the command line."""

from __future__ import annotations

from pathlib import Path

import click

from cvx_core.cli import kit
from cvx_core.explanations import Folder, encode_json


@click.command(
    "why",
    epilog="Examples: cvx why tool.jpg --label screwdriver   |   "
    "cvx why tool.jpg --label screwdriver --reference other.jpg --profile",
)
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--label",
    metavar="TRUTH",
    required=True,
    help="The true class by name or index, or the file that holds the truth.",
)
@kit.model_option
@kit.output_option("cvx-why")
@click.option(
    "--budget", default=50, show_default=True, help="Images that may go through the network."
)
@kit.memory_option
@click.option(
    "--error", default=0, show_default=True, help="Which of its errors; the most costly is 0."
)
@click.option("--rival", metavar="CLASS", help="Ask why this class, whichever came first.")
@click.option(
    "--reference",
    "reference_image",
    metavar="IMAGE",
    type=click.Path(path_type=Path),
    help="A photograph of the true class: what would have to be added?",
)
@click.option("--profile", is_flag=True, help="Add the layer profile.")
@kit.loading_options
@kit.json_option("why.json")
@kit.quiet_option
@kit.force_option
@click.pass_obj
def command(
    settings: kit.Settings,
    image: Path,
    label: str,
    model: str,
    folder: Path,
    budget: int,
    memory: int | None,
    error: int,
    rival: str | None,
    reference_image: Path | None,
    profile: bool,
    weights: str | None,
    trust_checkpoint: bool,
    device: str | None,
    as_json: bool,
    quiet: bool,
    force: bool,
) -> int:
    """Say which part of an image makes the answer wrong, tested by removing it.

    Writes the report as a page, DIR/index.html, beside its maps and DIR/why.json. Prints what was
    found out and the files.
    """
    with kit.only_data():
        from cvx_core.cli import ImageRequest, read_label
        from cvx_why.investigation import check_numbers, why
        from cvx_why.report.data import FILES

        check_numbers(budget, memory)
        Folder(folder, force=force).check(FILES)
        kit.installed_plugins()
        with kit.Console(quiet=quiet, verbose=settings.verbose) as reporter:
            reporter.stage("loading the model")
            loaded = kit.loaded_model(model, weights, device, trust_checkpoint)
            reporter.stage(f"removing parts of {image.name}")
            subject = ImageRequest(image, label)
            truth = read_label(subject, loaded)
            assert truth is not None
            report = why(
                loaded,
                subject.read(),
                truth,
                budget=budget,
                error=error,
                rival=rival,
                reference_image=reference_image,
                profile=profile,
                memory=memory,
            )
            reporter.stage("drawing")
            files = report.save(folder, overwrite=force)
    if as_json:
        kit.put(encode_json(report.to_dict()).decode().rstrip())
        return 0
    kit.put(report.text)
    for file in files:
        kit.put(str(file))
    return 0
