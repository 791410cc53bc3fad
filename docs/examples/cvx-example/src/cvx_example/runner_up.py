"""Command ``cvx runner-up``."""

from pathlib import Path

import click

from cvx_core import UsageError
from cvx_core.cli import kit


@click.command("runner-up", epilog="Example: cvx runner-up photo.jpg -o runner-up")
@kit.images_argument
@kit.model_option
@kit.explainers_option(["norm-grad"])
@kit.renderers_option
@kit.output_option("cvx-runner-up")
@kit.loading_options
@kit.quiet_option
@kit.force_option
@click.pass_obj
def command(
    settings: kit.Settings,
    /,
    images: tuple[str, ...],
    model: str,
    explainers: tuple[str, ...],
    renderers: tuple[str, ...],
    folder: Path,
    weights: str | None,
    device: str | None,
    trust_checkpoint: bool,
    quiet: bool,
    force: bool,
) -> int:
    """Explain why the predicted class scores higher than the second most probable.

    IMAGES are as for 'cvx explain'. Prints the two classes of each image and the path of the page.
    """
    with kit.only_data():  # what libraries print goes to standard error
        from dataclasses import replace

        from cvx_core import Contrast, Predicted  # imports torch, which `--help` doesn't need
        from cvx_core.cli import RunOptions, explain_to_folder, image_requests

        kit.installed_plugins()
        requests, lines = [], []
        with kit.Console(quiet=quiet, verbose=settings.verbose) as reporter:
            reporter.stage("loading the model")
            network = kit.loaded_model(model, weights, device, trust_checkpoint)
            for request in image_requests(images):
                [prediction] = network.predict(request.read())
                _, record = prediction.resolve(Predicted())
                if len(record.top) < 2:
                    raise UsageError(
                        f"{network.name} has no second class.", "Choose a classifier with -m."
                    )
                first, second = record.top[:2]
                lines.append(f"{request.shown}: {first.text}, {second.text}")
                target = Contrast(first.index, second.index)
                requests.append(replace(request, targets=(target,)))
            options = RunOptions(
                model=network,
                explainers=explainers or ("norm-grad",),
                renderers=renderers or RunOptions.renderers,
                force=force,
            )
            finished = explain_to_folder(requests, folder, options, reporter)
    for line in (*lines, *map(str, finished.main_files)):
        kit.put(line)
    return finished.exit_code
