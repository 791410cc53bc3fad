"""kill -9 at any moment: what was committed is there, and --resume ends with the same rows."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cvx_diagnose import diagnose
from cvx_engine.local import Local

from cvx_core import VisionModel
from cvx_core._util import files

Tree = Callable[..., Path]
Same = Callable[[pa.Table, pa.Table], bool]

KILLS = (255, 0, 255)
QUICK: dict[str, Any] = {
    "block_size": 4,
    "batch_size": 2,
    "budget": 0.0,
    "engine": Local(workers=2),
}


def begun(function: Callable[..., Any], *arguments: Any) -> Any:
    # A fork has everything imported, so that a kill comes after tens of milliseconds, not seconds.
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def go_on(model: VisionModel, data: Path, folder: Path) -> None:
    os.setsid()
    diagnose(model, data, folder, resume=True, **QUICK)


def killed_after(model: VisionModel, data: Path, folder: Path, seconds: float) -> None:
    process = begun(go_on, model, data, folder)
    process.join(seconds)
    process.kill()
    process.join()


def nobody_is_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def kill_often(times: int, model: VisionModel, tree: Tree, folder: Path, same: Same) -> None:
    data = tree(8, kills=KILLS)
    started = time.monotonic()
    whole = diagnose(model, data, folder / "whole", **QUICK)
    takes = time.monotonic() - started
    moments = random.Random(0)
    for _ in range(times):
        killed_after(model, data, folder / "run", moments.uniform(0, takes / 2))
    run = diagnose(model, data, folder / "run", resume=True, **QUICK)
    assert same(run.table(), whole.table())
    assert run.summary == whole.summary
    left = [path.name for path in (folder / "run").rglob(".cvx-*")]
    assert left == []


def test_three_random_kills_lose_nothing(
    model: VisionModel, tree: Tree, tmp_path: Path, same: Same
) -> None:
    kill_often(3, model, tree, tmp_path, same)


@pytest.mark.slow
def test_twenty_random_kills_lose_nothing(
    model: VisionModel, tree: Tree, tmp_path: Path, same: Same
) -> None:
    kill_often(20, model, tree, tmp_path, same)


def _die_at(replacement: int, before: bool, model: VisionModel, data: Path, folder: Path) -> None:
    """Be killed when a file takes its name, the n-th time; just before it or just after."""
    count = 0
    replace, link = Path.replace, os.link

    def dying(act: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == replacement and before:
                os.kill(os.getpid(), signal.SIGKILL)
            found = act(*arguments)
            if count == replacement:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return call

    Path.replace = dying(replace)  # type: ignore[method-assign]
    files.os.link = dying(link)  # type: ignore[attr-defined]
    diagnose(model, data, folder, resume=True, **QUICK)


# The manifest, the plan, three blocks of rows, and the summary.
@pytest.mark.parametrize("replacement", range(1, 7))
@pytest.mark.parametrize("before", [True, False])
def test_a_kill_at_each_file_that_is_written_loses_nothing(
    model: VisionModel, tree: Tree, tmp_path: Path, same: Same, replacement: int, before: bool
) -> None:
    data = tree(2)
    whole = diagnose(model, data, tmp_path / "whole", **QUICK)
    process = begun(_die_at, replacement, before, model, data, tmp_path / "run")
    process.join()
    assert process.exitcode == -signal.SIGKILL
    run = diagnose(model, data, tmp_path / "run", resume=True, **QUICK)
    assert same(run.table(), whole.table())
    assert run.summary == whole.summary


def test_no_process_is_left_behind(model: VisionModel, tree: Tree, tmp_path: Path) -> None:
    data = tree(2, hangs=(0, 255, 255))
    process = begun(go_on, model, data, tmp_path / "run")
    deadline = time.monotonic() + 30
    # The one that hangs is of the first block, so that nothing is committed before it is there.
    while not (tmp_path / "run/plan.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.kill()
    process.join()
    while not nobody_is_left(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert nobody_is_left(process.pid)
