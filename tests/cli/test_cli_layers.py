"""``cvx layers``: where a network can be looked at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Cvx

NET = """
import torch
from torch import nn
from cvx_core import VisionModel, Preprocess

def make():
    torch.manual_seed(0)
    return VisionModel(nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    ), preprocess=Preprocess(32))

def bare():
    return make().module
"""


def test_layers_are_listed_with_their_grids_and_the_chosen_one_is_marked(cvx: Cvx) -> None:
    (cvx.folder / "net.py").write_text(NET)
    done = cvx("layers", "-m", "net.py:make", "--json")
    document = json.loads(done.out)
    assert done.code == 0
    assert [(row["name"], row["grid"], row["shape"]) for row in document["layers"]] == [
        ("0", [16, 16], [4, 16, 16]),
        ("1", [16, 16], [4, 16, 16]),
        ("2", [8, 8], [6, 8, 8]),
        ("3", [8, 8], [6, 8, 8]),
    ]
    assert document["chosen"] == "3"
    assert [row["name"] for row in document["layers"] if row["chosen"]] == ["3"]
    lines = cvx("layers", "-m", "net.py:make").out.splitlines()
    assert lines[0].startswith("* last spatial layer that all paths to the output pass through")
    assert [line.split()[:2] for line in lines[1:] if line.startswith("*")] == [["*", "3"]]


def test_all_adds_the_layers_without_a_grid(cvx: Cvx) -> None:
    (cvx.folder / "net.py").write_text(NET)
    rows = json.loads(cvx("layers", "-m", "net.py:make", "--json", "--all").out)["layers"]
    assert {row["name"]: row["shape"] for row in rows if row["grid"] is None} == {
        "4": [6, 1, 1],
        "5": [6],
        "6": [3],
    }


def test_a_model_without_preprocess_asks_for_the_size_of_its_input(cvx: Cvx) -> None:
    (cvx.folder / "net.py").write_text(NET)
    done = cvx("layers", "-m", "net.py:bare")
    assert (done.code, "--size" in done.err, done.out) == (2, True, "")
    sized = json.loads(cvx("layers", "-m", "net.py:bare", "--size", "48x32", "--json").out)
    assert sized["input_size"] == [48, 32]
    assert sized["layers"][-1]["grid"] == [8, 12]
    assert cvx("layers", "-m", "net.py:bare", "--size", "0x9").code == 2
    done = cvx("layers", "-m", "net.py:bare", "--size", "99999999x2")
    assert (done.code, "8192" in done.err) == (2, True)


def test_a_long_name_of_two_lines_is_one_short_line(cvx: Cvx) -> None:
    code = (
        "\ndef long():\n"
        "    both = nn.Sequential()\n"
        "    both.add_module('a\\nb' + 'c' * 300, nn.Conv2d(3, 3, 1))\n"
        "    both.add_module('net', make().module)\n"
        "    return VisionModel(both, preprocess=Preprocess(32))\n"
    )
    (cvx.folder / "net.py").write_text(NET + code)
    lines = cvx("layers", "-m", "net.py:long").out.splitlines()
    assert max(map(len, lines)) < 140
    [long] = [line for line in lines if "a bccc" in line]
    assert "…" in long
