"""Every command takes models of the tasks that plugins bring."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvx_core import find_mistakes, load_model
from cvx_core.cli import main

TASKS = Path(__file__).parent / "tasks.py"
WRONG = {
    "multi_label": ("cat, dog", "none"),
    "regression": ("age=90", "-90"),
    "depth": ("truth.npy", "truth.npy"),
    "points": ("nose=1,1; ear=1,1", "nose=31,31; ear=31,31"),
    "prompts": ("a cat", "a big dog"),
    "embedding": ("anna", "ben"),
}
"""Two labels, of which the prediction is at most one."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    noise = np.random.default_rng(0)
    for name in ("one", "two", "people/anna/1", "people/ben/1"):
        file = tmp_path / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    np.save(tmp_path / "truth.npy", np.full((32, 32), 9.0))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("task", WRONG)
def test_a_task_of_a_plugin_goes_through_every_command(task: str, folder: Path) -> None:
    model = f"{TASKS}:{task}" if task != "embedding" else f"embedding:{TASKS}:{task},gallery=people"
    loaded = load_model(model)
    [found] = loaded.predict("one.png")
    labels = {text: loaded.task.read_label(text, "one.png", loaded.classes) for text in WRONG[task]}
    label = next(text for text, truth in labels.items() if find_mistakes(found, truth))
    given = ["one.png", "-m", model, "--label", label]
    assert main(["explain", *given, "-t", "margin", "-t", "predicted", "-o", "maps", "-q"]) == 0
    [image] = json.loads((folder / "maps/run.json").read_text())["images"]
    assert image["status"] == "explained"
    assert main(["why", *given, "-o", "why", "-q"]) == 0
    assert json.loads((folder / "why/why.json").read_text())["type"] != "correct"
    assert main(["score", "one.png", "-m", model, "-o", "score", "-q"]) == 0
    rows = "".join(f'{name}.png,"{label}"\n' for name in ("one", "two"))
    (folder / "labels.csv").write_text(f"path,label\n{rows}")
    # Its workers are processes, which need a main module of their own.
    command = [sys.executable, "-m", "cvx_core.cli", "diagnose", "labels.csv", "-m", model]
    done = subprocess.run([*command, "-o", "run", "-q"], capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (folder / "run/index.html").is_file()
