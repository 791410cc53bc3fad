"""``cvx diagnose`` on the command line."""

from __future__ import annotations

from pathlib import Path

import click

from cvx_core.cli import kit
from cvx_diagnose.run.supervisor import outliving


def _part(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """Read ``i/n``: the i-th of n parts, from 0."""
    first, slash, of = value.partition("/")
    if not (slash and first.isdigit() and of.isdigit() and int(first) < int(of)):
        raise click.BadParameter(
            f"{value!r} is no part: the first of four is 0/4, the last 3/4.", ctx, param
        )
    return int(first), int(of)


@click.command(
    "diagnose",
    epilog="Examples: cvx diagnose photographs -m torchvision:resnet50   |   "
    "cvx diagnose val.csv -m net.py:make -o run --resume   |   "
    "cvx diagnose instances_val2017.json -m embedded:nanodet --shard 0/4",
)
@click.argument("data", type=click.Path(path_type=Path))
@kit.model_option
@kit.output_option("cvx-diagnose")
@click.option("--resume", is_flag=True, help="Go on with the run in DIR, if there is one.")
@click.option("--limit", type=int, metavar="N", help="Take N inputs, spread over all.")
@click.option(
    "--shard",
    callback=_part,
    default="0/1",
    metavar="I/N",
    help="Take part I of N, from 0; all parts may share DIR.",
)
@click.option(
    "--budget",
    type=float,
    help="Images sent through the network to test regions, for each input; 0 for none. Without it "
    "0.25, and for fewer than 4000 inputs what tests 20 errors, at most 2.",
)
@click.option(
    "--engine",
    metavar="ENGINE",
    default="local",
    show_default=True,
    help="Where it runs, as in local:workers=4.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the paths in DATA begin, if not beside it.",
)
@click.option("--batch", default=32, show_default=True, help="Images explained together.")
@click.option("--block", default=256, show_default=True, help="Inputs written together.")
@click.option(
    "--timeout", default=60.0, show_default=True, help="Seconds that decoding one may take."
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="RUN",
    help="The folder of an older run over the same inputs: say what was fixed and what broke.",
)
@click.option(
    "--training",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="RUN",
    help="The folder of a run over the training data: say which of them led to the errors.",
)
@click.option(
    "--try-fix",
    is_flag=True,
    help="Try a new last layer, or a detector's threshold, on one half; judge it on the other.",
)
@kit.loading_options
@kit.json_option("summary.json")
@kit.quiet_option
@click.pass_obj
def command(
    settings: kit.Settings,
    data: Path,
    model: str,
    folder: Path,
    resume: bool,
    limit: int | None,
    shard: tuple[int, int],
    budget: float | None,
    engine: str,
    images: Path | None,
    batch: int,
    block: int,
    timeout: float,
    compare: Path | None,
    training: Path | None,
    try_fix: bool,
    weights: str | None,
    trust_checkpoint: bool,
    device: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Find the errors of a model on a whole data set, each with its maps.

    DATA is a folder with a folder for each class, or with images beside masks, labels or
    Annotations; or a .csv or .parquet with the columns path and label; or a COCO .json.

    Writes a report to DIR/index.html, a row for each input to DIR/rows, and DIR/summary.json.
    An input on which the network ends its process is found, and the others go on. Prints the
    summary. A finished run is looked into again with --resume.
    """
    code, again = outliving(folder, shard, kit.say)
    if code is not None:
        return code
    with kit.only_data():
        from cvx_engine import get_engine

        from cvx_core.plugins import parse_parameters
        from cvx_diagnose.diagnosis import diagnose, finishing
        from cvx_diagnose.progress import Pace
        from cvx_diagnose.report.text import describe_error
        from cvx_diagnose.run.plan import json_bytes

        kit.installed_plugins()
        name, parameters = parse_parameters(engine)
        runner = get_engine(name, **parameters)
        with kit.Console(quiet=quiet, verbose=settings.verbose) as reporter:
            reporter.stage("loading the model")
            loaded = kit.loaded_model(model, weights, device, trust_checkpoint)
            pace = Pace(reporter)
            try:
                with finishing(pace, pace.stopping):
                    run = diagnose(
                        loaded,
                        data,
                        folder,
                        limit=limit,
                        shard=shard,
                        resume=resume or again,
                        engine=runner,
                        budget=budget,
                        images=images,
                        block_size=block,
                        batch_size=batch,
                        timeout=timeout,
                        listener=pace,
                        compare=compare,
                        training=training,
                        try_fix=try_fix,
                    )
            except KeyboardInterrupt:
                reporter.note(
                    f"What was done is in {folder}; go on with the same command and --resume."
                )
                raise
    summary = run.summary
    if run.pending:
        left = f"{len(run.pending)} of {run.manifest.blocks} blocks are left in {folder}"
        if pace.stop:
            kit.put(f"{left}; go on with the same command and --resume.")
            return kit.INTERRUPTED
        kit.put(f"Part {shard[0]}/{shard[1]} is done; {left}, of other parts.")
        return 0
    assert summary is not None
    if as_json:
        kit.put(json_bytes(summary).decode().rstrip())
    else:
        for line in describe_error(summary):
            kit.put(line)
        kit.put(str(folder / "index.html"))
    return kit.SOME_FAILED if summary["counts"]["ok"] < summary["inputs"] else 0
