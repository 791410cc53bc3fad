"""The end of a run: its summary and its report, from rows that are all there."""

from __future__ import annotations

from pathlib import Path

from cvx_core import write_atomic
from cvx_core.explanations import as_json
from cvx_diagnose.findings import find
from cvx_diagnose.report import write_report
from cvx_diagnose.run import SUMMARY, Run
from cvx_diagnose.summary import summarise
from cvx_diagnose.work import Diagnosis


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
        See `cvx_diagnose.findings.find`.
    """
    summary = summarise(run)
    found, causes = find(run, summary, before=before, training=training, try_fix=try_fix, work=work)
    summary |= found
    write_report(run, summary, causes)
    # Last, as the sign that all else is there.
    write_atomic(run.folder / SUMMARY, as_json(summary), overwrite=True)


def opened(folder: str | Path | Run | None) -> Run | None:
    """Return a run that was named, if one was.

    Raises
    ------
    OutputError
        If the folder holds none.
    """
    return folder if folder is None or isinstance(folder, Run) else Run(folder)
