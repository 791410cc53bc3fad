"""Exporters of a run's numbers to experiment trackers: MLflow, Weights & Biases, TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from cvx_core import OptionError, OutputError, install_command
from cvx_core.plugins import describe_error
from cvx_diagnose.analysis.error_groups.names import class_namer

FILES = ("summary.json", "index.html")
"""What trackers that keep files are given."""


def run_scalars(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a summary by name; those that are unknown are left out.

    Examples
    --------
    >>> accuracy = {"value": 0.9, "value_with_failed": 0.9, "low": 0.8, "high": 0.95}
    >>> run_scalars({"accuracy": accuracy, "classes": None, "counts": {"ok": 10}})["accuracy"]
    0.9
    """
    accuracy, name = summary["accuracy"], class_namer(summary["classes"])
    found: dict[str, float | None] = {
        "accuracy": accuracy["value"],
        "accuracy_low": accuracy["low"],
        "accuracy_high": accuracy["high"],
        "accuracy_with_failed": accuracy["value_with_failed"],
        "calibration_error": summary.get("calibration", {}).get("ece"),
        "mean_iou": summary.get("iou", {}).get("mean"),
        "ap": summary.get("tide", {}).get("ap"),
        "label_issues": summary.get("label_issues", {}).get("count"),
        **{f"inputs/{status}": count for status, count in summary["counts"].items()},
    }
    for one in summary.get("by_class", ()):
        found[f"class_accuracy/{name(one['class'])}"] = one["correct"] / one["count"]
    for one in summary.get("iou", {}).get("classes", ()):
        found[f"class_iou/{name(one['class'])}"] = one["iou"]
    return {key: float(value) for key, value in found.items() if value is not None}


def export_run(folder: Path, summary: Mapping[str, Any], tracker: str) -> None:
    """Send a run's numbers, and its report where files are kept, to a tracker.

    Parameters
    ----------
    folder, summary
        Of a finished run.
    tracker
        ``mlflow`` or ``wandb``, into the active run or a new one, or ``tensorboard``, into
        ``DIR/tensorboard``. Server and project are those of the client's own environment variables.

    Raises
    ------
    OptionError
        If there is no such tracker, or its client is not installed.
    OutputError
        If the client fails.
    """
    client = check_tracker(tracker)
    numbers = run_scalars(summary)
    try:
        _TRACKERS[tracker][1](client, folder, summary, numbers)
    # The boundary to the client, which may raise anything.
    except Exception as error:
        raise OutputError(
            f"Export to {tracker} failed: {describe_error(error)}",
            "The run itself is complete; export it again with --resume.",
        ) from error


def check_tracker(tracker: str) -> Any:
    """Return the client of a tracker; raises `OptionError` if it is not installed."""
    if tracker not in _TRACKERS:
        raise OptionError(f"Unknown tracker {tracker!r}.", f"Available: {', '.join(_TRACKERS)}.")
    module, _ = _TRACKERS[tracker]
    try:
        return import_module(module)
    except ImportError as error:
        raise OptionError(
            f"Exporting to {tracker} requires its client, which is not installed.",
            f"Install it: {install_command(tracker)}",
        ) from error


def _mlflow(
    client: Any, folder: Path, summary: Mapping[str, Any], numbers: Mapping[str, float]
) -> None:
    active = client.active_run() is not None
    if not active:
        client.start_run(run_name=folder.name)
    try:
        client.log_params({name: summary[name] for name in ("model", "data", "task")})
        # Names of metrics may have no other signs.
        client.log_metrics({_plain(name): value for name, value in numbers.items()})
        for file in FILES:
            client.log_artifact(str(folder / file))
    finally:
        if not active:
            client.end_run()


def _wandb(
    client: Any, folder: Path, summary: Mapping[str, Any], numbers: Mapping[str, float]
) -> None:
    active = client.run is not None
    run = client.run or client.init(name=folder.name)
    run.config.update({name: summary[name] for name in ("model", "data", "task")})
    run.log(dict(numbers))
    for file in FILES:
        run.save(str(folder / file), base_path=str(folder), policy="now")
    if not active:
        run.finish()


def _tensorboard(
    client: Any, folder: Path, summary: Mapping[str, Any], numbers: Mapping[str, float]
) -> None:
    with client.SummaryWriter(str(folder / "tensorboard")) as writer:
        writer.add_text("model", f"{summary['model']} on {summary['data']}")
        for name, value in numbers.items():
            writer.add_scalar(name, value)


def _plain(name: str) -> str:
    return "".join(one if one.isalnum() or one in "_-. /" else "_" for one in name)


_TRACKERS: dict[str, tuple[str, Any]] = {
    "mlflow": ("mlflow", _mlflow),
    "wandb": ("wandb", _wandb),
    "tensorboard": ("torch.utils.tensorboard", _tensorboard),
}
"""Each tracker: the module of its client, and what sends the numbers."""
