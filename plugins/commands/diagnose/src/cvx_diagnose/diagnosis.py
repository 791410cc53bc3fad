"""``cvx.diagnose``: every input of a data set predicted, every error explained."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cvx_engine import Engine, Listener, get_engine

from cvx_core import OptionError, OutputError, UsageError, VisionModel, get_explainer, write_atomic
from cvx_diagnose.analysis.findings import find
from cvx_diagnose.analysis.metrics.summary import summarise
from cvx_diagnose.data import manifest
from cvx_diagnose.data.factory import absolute_path, open_source
from cvx_diagnose.data.sources import Source
from cvx_diagnose.report.page import write_report
from cvx_diagnose.run import plan
from cvx_diagnose.run.inference.model_probe import Probed, probe_source
from cvx_diagnose.run.inference.region_tests import check_installed, usual_budget
from cvx_diagnose.run.lock import only_run
from cvx_diagnose.run.plan import Plan, json_bytes
from cvx_diagnose.run.results import SUMMARY, Run
from cvx_diagnose.run.rows import ROWS
from cvx_diagnose.run.work import Diagnosis

BLOCK = 256
BATCH = 32


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
    block_size: int = BLOCK,
    batch_size: int = BATCH,
    timeout: float = 60.0,
    listener: Listener | None = None,
    compare: str | Path | Run | None = None,
    training: str | Path | Run | None = None,
    try_fix: bool = False,
) -> Run:
    """Predict every input of a data set, explain every error, and keep a row for each input.

    Parameters
    ----------
    model
        The model; it is left exactly as found.
    data, images
        See `cvx_diagnose.open_source`.
    folder
        Where to write. The rows of each block are there as soon as they are done.
    limit
        How many inputs to take, at equal distances over all; None takes all.
    shard
        (i, n): take each n-th block, from the i-th on, i from 0. Several machines may write into
        one folder, each its shard; whichever finishes last writes the summary.
    resume
        Go on with the run in the folder, if there is one: with the same plan it ends with the same
        rows and values, wherever it was cut off.
    engine
        Where it runs: an engine, or the name of one.
    budget
        Images that may go through the network for tests of regions (`cvx_core.why`), for each
        input; in each block the errors that cost most are tested, one at least. 0 tests none. None
        is 0.25, and for fewer than 4000 inputs what tests 20 errors, at most 2.
    block_size
        Inputs whose rows are written together: what an interruption can cost.
    batch_size
        Images explained together at most.
    timeout
        Seconds that decoding one input may take.
    listener
        Hears how it goes, and may stop it.
    compare
        An older, finished run over the same inputs: what was fixed and what broke is result.
    training
        A finished run of the same network over the data that it was trained on: training images
        are named that pulled each group of errors the wrong way, and labels among them that are
        suspected.
    try_fix
        Try fixes that need no new data on one half of the inputs, and judge them on the other.

    Returns
    -------
    Run
        What was written; its `summary` is None while blocks are missing.

    Raises
    ------
    UsageError
        If the folder holds a run already and `resume` is false, or one with another plan; if
        another process works in it; if the data are none for this model; if a run to compare with
        or of the training data is not finished, or is of other inputs or another network.
    OptionError
        If a value is outside its range, or a test of regions is asked for and cvx-why is missing.
    OutputError
        If the disk refuses. What was written before stays.

    Examples
    --------
    >>> import cvx_core as cvx
    >>> model = cvx.load_model("embedded")                                   # doctest: +SKIP
    >>> run = cvx.diagnose(model, "photographs", "out")                      # doctest: +SKIP
    >>> run.summary["right"]["value"]                                        # doctest: +SKIP
    0.81
    """
    _check(limit, shard, budget, block_size, batch_size, timeout)
    runner = get_engine(engine) if isinstance(engine, str) else engine
    place = absolute_path(Path(folder))
    before, trained = opened(compare), opened(training)
    source = open_source(data, model.task, model.classes, images)
    _check_free(place, resume or shard[1] > 1)
    with only_run(_made(place), shard):
        if shard[1] == 1:
            _clear(place)
        probed = probe_source(model, source)
        if probed.map_shape is not None:
            get_explainer("activation-error")
            if budget != 0:
                check_installed()
        given = (limit, budget, block_size, batch_size)
        asked = _plan(model, source, probed, given, place)
        work = Diagnosis(model, source, asked, place, shard, timeout)
        listener = listener or Listener()
        listener.begins(work.left)
        runner.run(work, listener)
        run = Run(place)
        if not run.pending:
            conclude(run, before, trained, try_fix=try_fix, work=work)
    return run


def _check(
    limit: int | None,
    shard: tuple[int, int],
    budget: float | None,
    block_size: int,
    batch_size: int,
    timeout: float,
) -> None:
    i, n = shard
    wrong: list[tuple[bool, str, str]] = [
        (limit is not None and limit < 1, f"A limit of {limit} leaves nothing.", "Take 1 or more."),
        (not 0 <= i < n, f"There is no shard {i}/{n}.", "Of n shards the first is 0/n."),
        (not 0 <= (budget or 0) < float("inf"), f"The budget is {budget}.", "Give 0 or more."),
        (block_size < 1, f"A block of {block_size} is empty.", "Take 1 or more."),
        (batch_size < 1, f"A batch of {batch_size} is empty.", "Take 1 or more."),
        (not timeout > 0, f"A timeout of {timeout} s lets nothing pass.", "Give more than 0."),
    ]
    for is_wrong, message, way_out in wrong:
        if is_wrong:
            raise OptionError(message, way_out)


def _check_free(folder: Path, resume: bool) -> None:
    if (folder / plan.NAME).exists() and not resume:
        raise UsageError(
            f"{folder} holds a run already.",
            "Go on with it: --resume. Or choose another folder with -o.",
        )


def _made(folder: Path) -> Path:
    try:
        (folder / ROWS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} can't be made: {error.strerror}.", "Choose another folder with -o."
        ) from error
    return folder


def _clear(folder: Path) -> None:
    """Remove what a run that was killed had begun to write."""
    for left in (*folder.glob(".cvx-*"), *(folder / ROWS).glob(".cvx-*")):
        with suppress(OSError):
            left.unlink()


def _plan(
    model: VisionModel,
    source: Source,
    probed: Probed,
    given: tuple[int | None, float | None, int, int],
    folder: Path,
) -> Plan:
    """Return the plan, having written it and the manifest, or found the same there."""
    limit, budget, block_size, batch_size = given
    total, items = manifest.chosen(source, limit)
    new = not (folder / plan.NAME).exists()
    # Another shard may do the same at the same time: each has a name of its own.
    temporary = folder / f".cvx-manifest-{os.getpid()}"
    try:
        held = manifest.contents(total, items, temporary if new else None)
        asked = Plan(
            model=model.name,
            weights_sha256=model.digest(),
            task=model.task,
            classes=model.classes,
            data=source.name,
            manifest_sha256=held.digest,
            items=held.count,
            total=held.total,
            limit=limit,
            budget=usual_budget(held.count) if budget is None else budget,
            block_size=block_size,
            batch_size=batch_size,
            **vars(probed),
        )
        if new:
            temporary.replace(folder / manifest.NAME)
    finally:
        with suppress(OSError):
            temporary.unlink()
    if new:
        with suppress(OutputError):  # another shard was faster; what it wrote is compared below
            write_atomic(folder / plan.NAME, asked.to_json())
    Plan.read(folder).check_same(asked, folder)
    return asked


def conclude(
    run: Run,
    before: Run | None = None,
    training: Run | None = None,
    *,
    try_fix: bool = False,
    work: Diagnosis | None = None,
) -> None:
    """Write a finished run's report and ``summary.json``, in the place of those that are there.

    Parameters
    ----------
    run, before, training, try_fix, work
        See `cvx_diagnose.analysis.findings.find`.
    """
    summary = summarise(run)
    found, causes = find(run, summary, before=before, training=training, try_fix=try_fix, work=work)
    summary |= found
    write_report(run, summary, causes)
    # Last, as the sign that all else is there.
    write_atomic(run.folder / SUMMARY, json_bytes(summary), overwrite=True)


def opened(folder: str | Path | Run | None) -> Run | None:
    """Return a run that was named, if one was.

    Raises
    ------
    OutputError
        If the folder holds none.
    """
    return folder if folder is None or isinstance(folder, Run) else Run(folder)


@contextmanager
def finishing(listener: Listener, said: Callable[[], None]) -> Iterator[None]:
    """Make Ctrl-C end a run after the block at work; pressed again, it ends it at once.

    Parameters
    ----------
    listener
        Of the run.
    said
        Called at the first Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        if listener.stop:
            raise KeyboardInterrupt
        listener.stop = True
        said()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
