"""``cvx demo`` through a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def demo(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CVX_", "UV_"))}
    return subprocess.run(
        [sys.executable, "-m", "cvx_core.cli", "demo", *arguments],
        cwd=folder,
        env={**kept, "CVX_OFFLINE": "1", "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(folder)


def test_it_prints_the_page_to_open_and_tells_what_it_shows(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = finished
    assert done.returncode == 0, done.stderr
    assert done.stdout == "cvx-demo/index.html\n"
    assert (folder / "cvx-demo/index.html").stat().st_size > 10_000
    for words in ("anemone fish", "power drill", ": cvx explain IMAGE"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_it_explains_both_photographs_with_all_four_methods(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run = json.loads((finished[0] / "cvx-demo/run.json").read_text())
    assert run["status"] == "finished"
    files = {Path(file).name for file in run["files"]}
    methods = {file.split(".")[0] for file in files}
    assert {
        "class-attention",
        "location-attention",
        "gradient-error",
        "activation-error",
    } <= methods
    assert {
        "class-attention.class-anemone-fish.png",
        "class-attention.class-sea-anemone.png",
    } <= files
    assert "class-attention.contrast-anemone-fish-vs-sea-anemone.png" in files
    assert {"gradient-error.margin.png", "activation-error.margin.png"} <= files


def test_it_never_writes_over_what_is_there_unless_told_to(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    again = demo(finished[0])
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_quiet_leaves_only_the_page_to_open(tmp_path: Path) -> None:
    done = demo(tmp_path, "--quiet", "-o", "here")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "here/index.html\n"
    assert done.stderr == ""


def test_under_uv_run_the_last_line_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    # The variable that `uv run` sets for what it runs; the shell around it has no `cvx`.
    done = demo(tmp_path, UV_RUN_RECURSION_DEPTH="1")
    assert ": uv run cvx explain IMAGE" in done.stderr.splitlines()[-1]
