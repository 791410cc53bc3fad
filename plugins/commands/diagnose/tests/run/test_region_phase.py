"""Regions are tested in errors of the model, not in wrong labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cvx_diagnose import diagnose, diagnosis
from cvx_engine import Listener
from cvx_engine.local import Local

from cvx_core import VisionModel

Tree = Callable[..., Path]
ASKED: dict[str, Any] = {"budget": 7.0, "block_size": 8, "engine": Local(workers=1)}


def costs(run: Any) -> list[tuple[int, bool]]:
    """Return ids of the errors of the first block, the most costly first, and which are tested."""
    rows = run.table(["id", "loss", "tested"], wrong=True).to_pylist()
    rows.sort(key=lambda row: -row["loss"])
    return [(row["id"], row["tested"]) for row in rows if row["id"] < 8]


def test_no_test_is_spent_on_a_suspected_label(
    model: VisionModel, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tree(3)
    run = diagnose(model, data, tmp_path / "run", **ASKED)
    [(worst, tested), (second, _), *_] = costs(run)
    assert tested
    issue = {"id": worst, "path": "", "label": 0, "suggested": 1, "probability": 1.0, "doubt": 1.0}
    monkeypatch.setattr(diagnosis, "find_label_issues", lambda _: [issue])
    run = diagnose(model, data, tmp_path / "other", **ASKED)
    assert [one for one in costs(run) if one[1]] == [(second, True)]


def test_nothing_is_tested_while_the_set_up_is_broken(
    model: VisionModel, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = {"kind": "chance", "text": "Broken.", "count": 1, "withholds": True}
    monkeypatch.setattr(diagnosis, "find_set_up", lambda *_: [finding])
    run = diagnose(model, tree(3), tmp_path / "run", **ASKED)
    assert run.summary is not None
    assert run.summary["region_tests"] == {}
    assert run.summary["advice"][0]["text"].startswith("Broken. Suspected labels")
    monkeypatch.undo()
    run = diagnose(model, tmp_path / "data", tmp_path / "run", resume=True, **ASKED)
    assert run.summary is not None
    assert run.summary["region_tests"]["tested"] == 2


def test_a_run_that_was_stopped_before_its_tests_goes_on_with_them(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    class Stopping(Listener):
        def done(self, block: int, rows: Any) -> None:
            self.stop = block == 1

    data = tree(3)
    run = diagnose(model, data, tmp_path / "run", listener=Stopping(), **ASKED)
    assert (run.pending, run.summary) == ([], None)
    assert not any(run.table(["tested"], wrong=True)["tested"].to_pylist())
    run = diagnose(model, data, tmp_path / "run", resume=True, **ASKED)
    whole = diagnose(model, data, tmp_path / "whole", **ASKED)
    assert run.summary == whole.summary
    assert run.table().drop_columns(["seconds"]) == whole.table().drop_columns(["seconds"])
