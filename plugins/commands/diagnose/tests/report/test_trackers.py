"""Numbers of a run in experiment trackers, whose clients are stood in for."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cvx_diagnose.report.trackers import FILES, export_run, run_scalars

from cvx_core import OptionError, OutputError, install_command

SUMMARY: dict[str, Any] = {
    "model": "net",
    "data": "set",
    "task": "classification",
    "classes": ["cat", "dog (big)"],
    "accuracy": {"value": 0.75, "value_with_failed": 0.6, "low": 0.5, "high": 0.9},
    "counts": {"ok": 4, "bad input": 1},
    "calibration": {"ece": None},
    "by_class": [{"class": 1, "count": 4, "correct": 3}],
}


class Client:
    """Notes what it is asked, as all three clients are asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.run = None

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any, **options: Any) -> Any:
            self.asked.append((name, *arguments))
            return None if name == "active_run" else self

        return ask

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append(("close",))


def test_numbers_that_are_unknown_are_left_out_and_classes_have_their_names() -> None:
    numbers = run_scalars(SUMMARY)
    assert numbers["accuracy"] == 0.75
    assert numbers["class_accuracy/dog (big)"] == 0.75
    assert numbers["inputs/bad input"] == 1
    assert not {"calibration_error", "ap", "mean_iou"} & set(numbers)


@pytest.mark.parametrize("tracker", ["mlflow", "tensorboard"])
def test_numbers_and_report_are_sent(
    tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    module = {"mlflow": "mlflow", "tensorboard": "torch.utils.tensorboard"}[tracker]
    monkeypatch.setitem(sys.modules, module, client)
    export_run(tmp_path, SUMMARY, tracker)
    if tracker == "mlflow":
        [metrics] = [one[1] for one in client.asked if one[0] == "log_metrics"]
        assert metrics["class_accuracy/dog _big_"] == 0.75
        files = [one[1] for one in client.asked if one[0] == "log_artifact"]
        assert files == [str(tmp_path / name) for name in FILES]
        assert client.asked[-1][0] == "end_run"
    else:
        assert ("add_scalar", "accuracy", 0.75) in client.asked
        assert client.asked[0] == ("SummaryWriter", str(tmp_path / "tensorboard"))
        assert client.asked[-1] == ("close",)


def test_a_run_of_wandb_that_is_active_is_used_and_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Client()
    run.__dict__["config"] = Client()
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=run))
    export_run(tmp_path, SUMMARY, "wandb")
    assert [one[0] for one in run.asked] == ["log", "save", "save"]


def test_a_client_that_is_missing_or_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(OptionError, match="requires its client") as missing:
        export_run(tmp_path, SUMMARY, "mlflow")
    assert missing.value.hint == f"Install it: {install_command('mlflow')}"
    with pytest.raises(OptionError, match="Unknown tracker 'comet'"):
        export_run(tmp_path, SUMMARY, "comet")
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=None))
    with pytest.raises(OutputError, match="Export to wandb failed"):
        export_run(tmp_path, SUMMARY, "wandb")
