"""``cvx score``: once through a real process, then as its arguments are read."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from PIL import Image

from cvx_core import cli

NET = """
import torch
from torch import nn
from cvx_core import Preprocess, VisionModel

def make():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )
    look = Preprocess(crop=64, mean=(0, 0, 0), std=(1, 1, 1))
    return VisionModel(net, preprocess=look, classes=["ant", "bee", "cat"])
"""

NUMBERS = {"type": "array", "items": {"type": ["number", "null"]}}
SCORE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["method", "measure", "value", "values", "passes", "seconds"],
    "properties": {
        "method": {"type": "string"},
        "measure": {"type": "string"},
        "value": {"type": ["number", "null"]},
        "better": {"enum": ["higher", "lower"]},
        "quantity": {"type": "string"},
        "values": NUMBERS,
        "reasons": {"type": "array", "items": {"type": "string"}},
        "shares": {"type": "array"},
        "curves": {"type": "array", "items": NUMBERS},
        "passes": {"type": ["integer", "null"]},
        "seconds": {"type": "number", "minimum": 0},
        "details": {"type": "object"},
    },
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["schema", "versions", "model", "images", "target", "seed", "scores"],
    "properties": {
        "schema": {"const": "cvx.score/2"},
        "versions": {"type": "object"},
        "model": {"type": "object"},
        "images": {"type": "array"},
        "target": {"type": "string"},
        "seed": {"type": "integer"},
        "scores": {"type": "array", "items": SCORE},
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    for name, place in (("a.png", (20, 20, 60, 60)), ("b.png", (70, 30, 110, 90))):
        photograph = Image.new("RGB", (128, 128), (90, 120, 100))
        photograph.paste((255, 0, 0), place)
        photograph.save(tmp_path / name)
    return tmp_path


def score(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cvx_core.cli", "score", *arguments, "-m", "net.py:make"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_it_prints_a_table_and_writes_the_numbers(folder: Path) -> None:
    arguments = ("a.png", "b.png", "-e", "grad-cam", "-e", "input-x-gradient", "--steps", "4")
    done = score(folder, *arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[::2] == ["insertion", "deletion", "road", "road-lerf", "completeness"]
    assert [line.split()[0] for line in lines[1:3]] == ["grad-cam", "input-x-gradient"]
    assert [line.split()[0] for line in lines[-5:-2]] == ["cost", "passes", "seconds"]
    assert lines[-2:] == ["cvx-score/curves.png", "cvx-score/score.json"]
    assert Image.open(folder / "cvx-score/curves.png").format == "PNG"
    document = json.loads((folder / "cvx-score/score.json").read_text())
    jsonschema.validate(document, SCHEMA)
    assert [one["file"] for one in document["images"]] == ["a.png", "b.png"]
    assert len(document["scores"]) == 2 * 5
    again = score(folder, *arguments)
    assert again.returncode == 2
    assert "already exists" in again.stderr


def test_a_folder_that_refuses_the_file_costs_no_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.chdir(folder)
    asked = ["score", "a.png", "-e", "grad-cam", "--measure", "completeness", "-m", "net.py:make"]
    assert cli.main(asked) == 1
    printed = capfd.readouterr()
    assert "No space left on device" in printed.err
    assert "grad-cam" in printed.out
    assert "score.json" not in printed.out


def test_each_image_has_a_region_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    code = cli.main([
        "score", "a.png", "b.png", "-m", "net.py:make", "-e", "input-x-gradient", "--measure",
        "pointing", "--measure", "mass", "--region", "20,20,60,60", "--region", "70,30,110,90",
        "--json", "-q",
    ])  # fmt: skip
    assert code == 0
    document = json.loads(capfd.readouterr().out)
    assert document == json.loads((folder / "cvx-score/score.json").read_text())
    pointing, mass = document["scores"]
    # The photographs are twice the input's size.
    assert mass["details"]["area"] == [20 * 20 / 64**2, 20 * 30 / 64**2]
    assert (pointing["measure"], len(pointing["values"])) == ("pointing", 2)


def test_what_is_asked_is_asked_of_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    code = cli.main([
        "score", "a.png", "-m", "net.py:make", "-e", "input-x-gradient", "--measure", "deletion",
        "-t", "ant vs bee", "--json", "-q", "--steps", "2",
    ])  # fmt: skip
    assert code == 0
    document = json.loads(capfd.readouterr().out)
    assert document["target"] == "ant vs bee"
    assert document["scores"][0]["quantity"] == "logit"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a.png", "--measure", "pointing"], "--region"),
        (["a.png", "--measure", "insertoin"], "Did you mean 'insertion'?"),
        (["a.png", "b.png", "--label", "ant", "--label", "bee", "--label", "cat"], "3 labels"),
        (["a.png", "-t", "dog"], "no class 'dog'"),
    ],
)
def test_what_can_t_be_measured_is_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(folder)
    assert cli.main(["score", *arguments, "-m", "net.py:make", "-e", "input-x-gradient"]) == 2
    assert told in capfd.readouterr().err
    assert not (folder / "cvx-score").exists()
