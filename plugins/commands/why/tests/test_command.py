"""``cvx why`` through a real process, and as its options are read."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cvx_core import cli

NET = """
import torch
from torch import nn
from cvx_core import Preprocess, VisionModel

def make():
    redness, score = nn.Conv2d(3, 1, 1), nn.Linear(1, 2)
    with torch.no_grad():
        redness.weight.copy_(torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1))
        redness.bias.fill_(-0.3)
        score.weight.copy_(torch.tensor([[0.0], [200.0]]))
        score.bias.copy_(torch.tensor([2.0, 0.0]))
    net = nn.Sequential(redness, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), score)
    look = Preprocess(crop=64, mean=(0, 0, 0), std=(1, 1, 1))
    return VisionModel(net, preprocess=look, classes=["plain", "red"])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    photograph = Image.new("RGB", (128, 128), (120, 120, 120))
    photograph.paste((255, 0, 0), (72, 40, 96, 64))
    photograph.save(tmp_path / "photo.png")
    return tmp_path


def why(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cvx_core.cli", "why", *arguments, "-m", "net.py:make"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_it_says_what_is_blamed_and_writes_the_report(folder: Path) -> None:
    done = why(folder, "photo.png", "--label", "plain")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("misclassified: red")
    assert "verified" in lines[1]
    assert lines[-5:] == [
        f"cvx-why/{name}"
        for name in ("index.html", "maps.html", "blame.png", "contrast.png", "why.json")
    ]
    again = why(folder, "photo.png", "--label", "plain")
    assert again.returncode == 2
    assert "already exists" in again.stderr


def test_a_folder_that_refuses_the_files_costs_no_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.chdir(folder)
    asked = ["why", "photo.png", "--label", "plain", "-m", "net.py:make"]
    assert cli.main(asked) == 1
    printed = capfd.readouterr()
    assert "No space left on device" in printed.err
    assert printed.out.startswith("misclassified: red")
    assert "cvx-why/" not in printed.out
    assert not [path for path in (folder / "cvx-why").rglob("*") if path.is_file()]


def test_a_class_name_with_an_escape_sequence_is_spelled_out(folder: Path) -> None:
    (folder / "net.py").write_text(NET.replace('"red"', r'"red\x1b[2J\nwhite"'))
    done = why(folder, "photo.png", "--label", "plain")
    assert done.stdout.startswith(r"misclassified: red\x1b[2J white "), done.stderr


def test_the_document_names_the_region_in_pixels_of_the_photograph(folder: Path) -> None:
    done = why(folder, "photo.png", "--label", "plain", "--json", "-o", "out", "-q")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    left, top, right, bottom = document["regions"][0]["box"]
    # The photograph is twice the input's size, and the region may have a rim of two pixels there.
    assert max(abs(left - 72), abs(top - 40), abs(right - 96), abs(bottom - 64)) <= 4
    assert json.loads((folder / "out/why.json").read_text()) == document


def test_an_unknown_class_is_refused(folder: Path) -> None:
    done = why(folder, "photo.png", "--label", "rad")
    assert done.returncode == 2
    assert "Did you mean 'red'?" in done.stderr
    assert not (folder / "cvx-why").exists()


SHADES = """
from pathlib import Path
import torch
from torch import nn
from cvx_core import Preprocess, VisionModel

class Logged(nn.Identity):
    def forward(self, x):
        with Path("together.txt").open("a") as file:
            print(len(x), file=file)
        return x

def make():
    redness, score = nn.Conv2d(3, 1, 1), nn.Linear(1, 3)
    with torch.no_grad():
        redness.weight.copy_(torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1))
        redness.bias.fill_(-0.3)
        score.weight.copy_(torch.tensor([[0.0], [200.0], [150.0]]))
        score.bias.copy_(torch.tensor([2.0, 0.0, 0.0]))
    net = nn.Sequential(
        Logged(), redness, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), score
    )
    look = Preprocess(crop=64, mean=(0, 0, 0), std=(1, 1, 1))
    return VisionModel(net, preprocess=look, classes=["plain", "red", "pink"])
"""


def test_each_option_reaches_the_investigation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "shades.py").write_text(SHADES)
    Image.new("RGB", (128, 128), (120, 120, 120)).save(folder / "grey.png")
    code = cli.main([
        "why", "photo.png", "--label", "plain", "-m", "shades.py:make", "--budget", "43",
        "--rival", "pink", "--reference", "grey.png", "--profile", "--memory", "1", "-q",
    ])  # fmt: skip
    assert code == 0, capfd.readouterr().err
    document = json.loads((folder / "cvx-why/why.json").read_text())
    assert document["budget"] == 43
    assert document["target"] == "why pink rather than plain?"
    assert "reference" in document["regions"][0]["fills"]
    assert document["counterfactual"]["positions"]
    assert {row["layer"] for row in document["profile"]} >= {"1", "2"}
    # Two go together to find out whether one image's answer depends on another's; then one by one.
    together = [int(line) for line in (folder / "together.txt").read_text().split()]
    assert max(together) == 2


def test_the_number_of_the_error_reaches_the_investigation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    code = cli.main(["why", "photo.png", "--label", "plain", "-m", "net.py:make", "--error", "1"])
    assert code == 2
    assert "error must be 0 to 0" in capfd.readouterr().err


def test_a_budget_that_can_not_be_is_refused_before_a_model_is_looked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    code = cli.main(["why", "photo.png", "--label", "plain", "-m", "none.py:x", "--budget", "0"])
    assert code != 0
    assert "got 0" in capfd.readouterr().err
