"""The summary as text acts on nothing that shows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvx_diagnose import Run, diagnose
from cvx_diagnose.report.text import summary_lines
from cvx_engine.local import Local

from cvx_core import VisionModel


def test_each_line_is_one_line_whatever_a_file_is_called(
    model: VisionModel, tree: Callable[..., Path], tmp_path: Path
) -> None:
    data = tree(1)
    (data / "ant" / "broken\x1b[2J\nnow.png").write_bytes(b"nothing")
    run = diagnose(model, data, tmp_path / "run", budget=0.0, engine=Local(workers=1))
    assert run.summary is not None
    lines = summary_lines(run.summary)
    assert any(line.startswith(r"  ant/broken\x1b[2J now.png: ") for line in lines), lines
    assert all(line.isprintable() for line in lines), lines


def test_a_damaged_summary_is_made_again(
    model: VisionModel, tree: Callable[..., Path], tmp_path: Path
) -> None:
    def begun(resume: bool) -> Run:
        asked: Any = {"budget": 0.0, "engine": Local(workers=1), "resume": resume}
        return diagnose(model, tmp_path / "data", tmp_path / "run", **asked)

    tree(1)
    whole = begun(False).summary
    (tmp_path / "run/summary.json").write_text('{"counts": ')
    assert whole is not None
    assert begun(True).summary == whole
