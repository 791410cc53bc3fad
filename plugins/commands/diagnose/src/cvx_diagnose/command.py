"""Command line of ``cvx diagnose``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cvx_core.cli import kit
from cvx_diagnose.analysis.metrics.limits import parse_limits
from cvx_diagnose.export_command import export
from cvx_diagnose.run.supervisor import supervise


def _shard(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """Parse ``i/n``: shard i of n, from 0."""
    first, slash, of = value.partition("/")
    if not (slash and first.isdigit() and of.isdigit() and int(first) < int(of)):
        raise click.BadParameter(
            f"must be I/N with 0 <= I < N, as in 0/4, got {value!r}.", ctx, param
        )
    return int(first), int(of)


class _WithExport(click.Command):
    """The command, unless its first argument is ``export``."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Return the context of the command, or of ``export``."""
        if args[:1] == ["export"]:
            return export.make_context(f"{info_name} export", args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command of the context."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


@click.command(
    "diagnose",
    cls=_WithExport,
    epilog="Examples: cvx diagnose photographs -m torchvision:resnet50   |   "
    "cvx diagnose val.csv -m net.py:make -o run --resume   |   "
    "cvx diagnose instances_val2017.json -m embedded:nanodet --shard 0/4   |   "
    "cvx diagnose export cvx-diagnose --to label-studio",
)
@click.argument("data")
@kit.model_option
@kit.output_option("cvx-diagnose")
@click.option("--resume", is_flag=True, help="Resume the run in DIR, if there is one.")
@click.option("--limit", type=int, metavar="N", help="Use N inputs, evenly spaced over all.")
@click.option(
    "--shard",
    callback=_shard,
    default="0/1",
    metavar="I/N",
    help="Process shard I of N, from 0; all shards may share DIR.",
)
@click.option(
    "--budget",
    type=float,
    help="Forward passes per input for region tests; 0 disables them. Default: 0.25; below 4000 "
    "inputs, enough to test 20 mistakes, at most 2.",
)
@click.option(
    "--engine",
    metavar="ENGINE",
    default="local",
    show_default=True,
    help="Engine that runs the work, such as local:workers=4.",
)
@click.option(
    "--images",
    metavar="DIR",
    help="Folder or address that the paths in DATA are relative to. Default: the folder of DATA.",
)
@click.option(
    "--classes-map",
    "classes_map",
    multiple=True,
    metavar="MAP",
    help="Class names of DATA and of the model, as in 'bike=bicycle,sofa=' (empty: ignore the "
    "class), or a JSON file of them.",
)
@click.option("--path-column", metavar="NAME", help="Column of a table with the paths.")
@click.option("--label-column", metavar="NAME", help="Column of a table with the labels.")
@click.option(
    "--split", metavar="NAME", help="Split of a data.yaml. Default: val, if there is one."
)
@click.option("--batch", "batch_size", default=32, show_default=True, help="Images per batch.")
@click.option(
    "--block",
    "block_size",
    default=256,
    show_default=True,
    help="Inputs per block, which is written as a whole.",
)
@click.option(
    "--timeout", default=60.0, show_default=True, help="Time limit for decoding one input, in s."
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="RUN",
    help="Folder of an older run over the same inputs: report what was fixed and what broke; exit "
    "code 7 if accuracy, a class or a slice got worse.",
)
@click.option(
    "--fail-under",
    "limits",
    metavar="LIMITS",
    help="Lowest accepted values, as in accuracy=0.9,worst-group=0.7 (or iou, ap); exit code 7 "
    "if one is not met.",
)
@click.option(
    "--training",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="RUN",
    help="Folder of a run over the training data: report training images that led to the errors.",
)
@click.option(
    "--try-fix",
    is_flag=True,
    help="Retrain the last layer and fit a temperature, or tune the thresholds of "
    "a detector, of several labels or of a segmenter's classes, on one half of the inputs; "
    "evaluate on the other.",
)
@click.option(
    "--log",
    "trackers",
    metavar="TRACKER",
    multiple=True,
    help="Send the numbers to mlflow, wandb or tensorboard; repeatable.",
)
@kit.loading_options
@kit.json_option("summary.json")
@kit.quiet_option
@click.pass_obj
def command(
    settings: kit.Settings,
    /,
    data: str,
    model: str,
    folder: Path,
    shard: tuple[int, int],
    engine: str,
    weights: str | None,
    trust_checkpoint: bool,
    device: str | None,
    as_json: bool,
    quiet: bool,
    classes_map: tuple[str, ...],
    limits: str | None,
    trackers: tuple[str, ...],
    **options: Any,
) -> int:
    """Find and explain the mistakes of a model on a data set.

    DATA is one of: a folder with one sub-folder per class; a folder that contains images/ and
    masks/, labels/ or Annotations/; a .csv, .tsv, .jsonl or .parquet file with a column of paths
    (or of images, in .parquet) and one of labels; WebDataset .tar files; a COCO .json or a YOLO
    data.yaml. Or the address of one, such as s3://bucket/images (through fsspec).

    Writes a report to DIR/index.html, a row for each input to DIR/rows, and DIR/summary.json, and
    prints the summary. `cvx diagnose export RUN --to FORMAT` writes the fixes for another tool. If
    an input crashes the process, cvx records that input and continues. --resume on a finished run
    repeats only the analysis.
    """
    fail_under = {} if limits is None else parse_limits(limits)
    code, resumed = supervise(folder, shard, kit.say, click.get_current_context().call_on_close)
    if code is not None:
        return code
    with kit.only_data():
        from cvx_engine import get_engine

        from cvx_core.explanations import encode_json as json_bytes
        from cvx_core.plugins import parse_parameters
        from cvx_diagnose.data.factory import parse_classes_map
        from cvx_diagnose.diagnosis import diagnose
        from cvx_diagnose.progress import RunProgress
        from cvx_diagnose.report.text import limit_lines, regression_lines, summary_lines
        from cvx_diagnose.report.trackers import check_tracker, export_run
        from cvx_diagnose.run.rows import ROWS

        for tracker in trackers:
            check_tracker(tracker)
        kit.installed_plugins()
        name, parameters = parse_parameters(engine)
        options |= {"shard": shard, "engine": get_engine(name, **parameters)}
        options["resume"] |= resumed
        options["classes_map"] = parse_classes_map(classes_map)
        options["fail_under"] = fail_under
        with kit.Console(quiet=quiet, verbose=settings.verbose) as reporter:
            reporter.stage("loading the model")
            loaded = kit.loaded_model(model, weights, device, trust_checkpoint)
            progress = RunProgress(reporter)
            try:
                with progress.finish_block_on_interrupt():
                    run = diagnose(loaded, data, folder, listener=progress, **options)
            except KeyboardInterrupt:
                found = any((folder / ROWS).glob("*.parquet"))
                reporter.note(
                    f"Finished blocks are in {folder}; resume with --resume."
                    if found
                    else "No block is finished; run it again with --resume, or with a smaller "
                    "--block and another -o."
                )
                raise
    if run.pending:
        left = f"{len(run.pending)} of {run.manifest.blocks} blocks in {folder} are pending"
        if progress.stop:
            kit.say(f"{left}; resume with --resume.")
            return kit.INTERRUPTED
        if not quiet:
            kit.put(f"Shard {shard[0]}/{shard[1]} is done; {left} in other shards.")
        return 0
    if run.summary is None:
        kit.say(f"Region tests in {folder} are pending; resume with --resume.")
        return kit.INTERRUPTED
    summary = run.summary
    with kit.only_data():
        for tracker in trackers:
            export_run(folder, summary, tracker)
    if as_json:
        kit.put(json_bytes(summary).decode().rstrip())
    elif not quiet:
        for line in [*summary_lines(summary), str(folder / "index.html")]:
            kit.put(line)
    failed = limit_lines(summary)
    if options["compare"] is not None:
        failed += regression_lines(summary)
    for line in failed:
        kit.say(f"cvx: {line}.")
    if failed:
        return kit.REQUIREMENT_FAILED
    return kit.SOME_FAILED if summary["counts"]["ok"] < summary["inputs"] else 0
