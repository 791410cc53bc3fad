"""Diagnosis of a model: every input of a data set predicted, every error explained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cvx_engine import Engine, Listener, get_engine

from cvx_core import OutputError, UsageError, VisionModel, get_explainer, write_atomic
from cvx_core.explanations import encode_json, settled
from cvx_diagnose.analysis.findings import collect_findings
from cvx_diagnose.analysis.fixes.fix_rows import find_fix_rows
from cvx_diagnose.analysis.label_issues.search import find_label_issues
from cvx_diagnose.analysis.metrics.limits import apply_limits, check_limits
from cvx_diagnose.analysis.metrics.summary import MOST_LISTED, summarize
from cvx_diagnose.analysis.set_up.findings import find_set_up
from cvx_diagnose.data import manifest
from cvx_diagnose.data.factory import open_source
from cvx_diagnose.data.sources import Source
from cvx_diagnose.report.fix_files import write_fixes
from cvx_diagnose.report.page import write_report
from cvx_diagnose.run import plan
from cvx_diagnose.run.inference.model_probe import probe_for_source
from cvx_diagnose.run.inference.region_tests import default_budget, require_why
from cvx_diagnose.run.lock import run_lock
from cvx_diagnose.run.plan import Plan, RunOptions
from cvx_diagnose.run.region_phase import RegionWork
from cvx_diagnose.run.results import SUMMARY, Run
from cvx_diagnose.run.rows import ROWS
from cvx_diagnose.run.work import DiagnosisWork


def diagnose(
    model: VisionModel,
    data: Any,
    folder: str | Path = "cvx-diagnose",
    *,
    limit: int | None = None,
    shard: tuple[int, int] = (0, 1),
    resume: bool = False,
    engine: str | Engine = "local",
    budget: float | None = None,
    images: str | Path | None = None,
    classes_map: Mapping[str, str | int] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    block_size: int = 256,
    batch_size: int = 32,
    timeout: float = 60.0,
    listener: Listener | None = None,
    compare: str | Path | Run | None = None,
    training: str | Path | Run | None = None,
    try_fix: bool = False,
    fail_under: Mapping[str, float] | None = None,
) -> Run:
    """Predict every input of a data set, explain every error, and write a row for each input.

    Parameters
    ----------
    model
        The model; it is not changed.
    data, images, classes_map, path_column, label_column, split
        See `cvx_diagnose.open_source`.
    folder
        Output folder. The rows of each block are written as soon as they are done.
    limit
        Number of inputs to use, at equal distances over all; None uses all.
    shard
        (i, n): every n-th block, from the i-th on, i from 0. Several machines may write into one
        folder, each its shard; the last to finish writes the summary.
    resume
        Resume the run in the folder, if there is one. With the same configuration the rows and
        values are those of an uninterrupted run.
    engine
        Where to run: an engine, or the name of one.
    budget
        Images that may be sent through the network to test regions (`cvx_core.why`), for each
        input; in each block the most costly errors are tested, at least one. 0 tests none. None
        is 0.25, and for fewer than 4000 inputs enough to test 20 errors, at most 2.
    block_size
        Inputs whose rows are written together: the most that an interruption can lose.
    batch_size
        Maximum number of images explained together.
    timeout
        Time limit for decoding one input, in seconds.
    listener
        Notified of the progress; may stop the run.
    compare
        An older, finished run over the same inputs: reports what was fixed and what broke.
    training
        A finished run of the same network over its training data: reports the training images
        that increased the loss of each group of errors most, and label issues among them.
    try_fix
        Try fixes that need no new data on one half of the inputs, and evaluate on the other.
    fail_under
        Lowest accepted values by measure (accuracy, worst-group, iou, ap), each in [0, 1];
        `summary["limits"]` tells which are met.

    Returns
    -------
    Run
        The results; `summary` is None while blocks or their region tests are missing.

    Raises
    ------
    UsageError
        If the folder holds a run and `resume` is false, or one with another configuration; if
        another process uses the folder; if the data do not suit the model; if a run to compare
        with or of the training data is not finished, or is of other inputs or another network.
    OptionError
        If a value is out of range, or regions are to be tested and cvx-why is missing.
    OutputError
        If the disk refuses, or another version of cvx wrote a run. Existing files are kept.

    Examples
    --------
    >>> import cvx_core as cvx
    >>> model = cvx.load_model("embedded")                                   # doctest: +SKIP
    >>> run = cvx.diagnose(model, "photographs", "out")                      # doctest: +SKIP
    >>> run.summary["accuracy"]["value"]                                     # doctest: +SKIP
    0.81
    """
    check_limits(fail_under or {}, model.task.columns)
    options = RunOptions(limit, budget, block_size, batch_size, shard, timeout)
    runner = get_engine(engine) if isinstance(engine, str) else engine
    folder = settled(Path(folder))
    before, trained = _open_run(compare), _open_run(training)
    source = open_source(
        data,
        model.task.name,
        model.classes,
        images,
        classes_map=classes_map,
        path_column=path_column,
        label_column=label_column,
        split=split,
    )
    if (folder / plan.NAME).exists() and not (resume or shard[1] > 1):
        raise UsageError(
            f"{folder} already contains a run.",
            "Resume it with --resume, or choose another folder with -o.",
        )
    with run_lock(_create(folder), shard):
        if shard[1] == 1:
            _remove_temporary_files(folder)
        probe = probe_for_source(model, source)
        if probe["map_shape"] is not None:
            get_explainer("activation-error")
            if budget != 0:
                require_why()
        run_plan = _write_plan(model, source, probe, options, folder)
        work = DiagnosisWork(model, source, run_plan, folder, shard, timeout)
        listener = listener or Listener()
        listener.begins(work.left)
        runner.run(work, listener)
        run = Run(folder)
        if not run.pending:
            _conclude(run, before, trained, try_fix, fail_under or {}, work, runner, listener)
    return run


def _open_run(run: str | Path | Run | None) -> Run | None:
    return run if run is None or isinstance(run, Run) else Run(run)


def _create(folder: Path) -> Path:
    try:
        (folder / ROWS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Can't create {folder}: {error.strerror}.", "Choose another folder with -o."
        ) from error
    return folder


def _remove_temporary_files(folder: Path) -> None:
    """Remove files that a killed run had begun to write."""
    for left in (*folder.glob(".cvx-*"), *(folder / ROWS).glob(".cvx-*")):
        with suppress(OSError):
            left.unlink()


def _write_plan(
    model: VisionModel, source: Source, probe: dict[str, Any], options: RunOptions, folder: Path
) -> Plan:
    """Write plan and manifest, or check that those in the folder are the same."""
    total, items = manifest.select_items(source, options.limit)
    new = not (folder / plan.NAME).exists()
    # Another shard may do the same at the same time: each has a name of its own.
    temporary = folder / f".cvx-manifest-{os.getpid()}"
    try:
        file = temporary if new else None
        count, digest = manifest.write_manifest(items, file, source.renamed)
        budget = default_budget(count) if options.budget is None else options.budget
        result = Plan(
            model=model.name,
            weights_sha256=model.digest(),
            task=model.task.name,
            classes=model.classes,
            data=source.name,
            manifest_sha256=digest,
            items=count,
            total=total,
            limit=options.limit,
            budget=budget,
            block_size=options.block_size,
            batch_size=options.batch_size,
            **probe,
        )
        if new:
            temporary.replace(folder / manifest.NAME)
    finally:
        with suppress(OSError):
            temporary.unlink()
    if new:
        with suppress(OutputError):  # another shard was faster; its plan is compared below
            write_atomic(folder / plan.NAME, encode_json(result.to_dict()))
    Plan.read(folder).check_same(result, folder)
    return result


def _conclude(
    run: Run,
    before: Run | None,
    training: Run | None,
    try_fix: bool,
    limits: Mapping[str, float],
    work: DiagnosisWork,
    engine: Engine,
    listener: Listener,
) -> None:
    """Test regions, and write report and summary of a finished run, replacing earlier ones."""
    summary = summarize(run)
    listener.stage("searching label issues")
    set_up = find_set_up(run, summary, work)
    withheld = any(one["withholds"] for one in set_up)
    issues = [] if withheld else find_label_issues(run)
    # Tests cost much: not of wrong labels, nor of a broken set-up.
    if not withheld:
        tests = RegionWork(work, [one["id"] for one in issues])
        if tests.pending():
            listener.stage("testing regions", tests.left)
            engine.run(tests, listener)
        if tests.pending():
            return
    summary = summarize(run)
    faults = list(work.source.faults)
    summary["data_faults"] = {"count": len(faults), "listed": faults[:MOST_LISTED]}
    found, error_groups, slices = collect_findings(
        run,
        summary,
        set_up,
        issues,
        before=before,
        training=training,
        try_fix=try_fix,
        work=work,
        listener=listener,
    )
    summary |= found
    summary["limits"] = apply_limits(summary, limits)
    listener.stage("writing the report")
    write_fixes(run.folder, find_fix_rows(run, summary, issues, error_groups, slices))
    write_report(run, summary, error_groups, slices)
    # Written last: its presence means that everything else is there.
    write_atomic(run.folder / SUMMARY, encode_json(summary), overwrite=True)
