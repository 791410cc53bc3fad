"""``cvx diagnose`` through a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dispositions import reset_signals

from cvx_core.testing.models import CLASSES

NET = """
import time
from cvx_core import Preprocess, VisionModel
from cvx_core.testing.models import CLASSES, convolutional

class Slow:
    def __init__(self):
        self.inner = Preprocess(crop=32)

    def __call__(self, image):
        time.sleep(0.02)
        return self.inner(image)

def make():
    return VisionModel(convolutional().module, preprocess=Slow(), classes=CLASSES)
"""

Tree = Callable[..., Path]


def begin(data: Path, *arguments: str, net: str = NET) -> subprocess.Popen[str]:
    (data.parent / "net.py").write_text(net)
    asked = ("diagnose", "data", "-m", "net.py:make", "--block", "4", "--batch", "2")
    return subprocess.Popen(
        [sys.executable, "-m", "cvx_core.cli", *asked, "--budget", "0", *arguments],
        cwd=data.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=reset_signals,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def diagnose(data: Path, *arguments: str, net: str = NET) -> tuple[int, str, str]:
    process = begin(data, *arguments, net=net)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def test_it_says_how_many_are_right_and_writes_the_summary(tree: Tree) -> None:
    data = tree(2)
    code, out, err = diagnose(data)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "10 of 10 inputs predicted"
    assert "% correct (" in lines[1]
    assert lines[-1] == "cvx-diagnose/index.html"
    code, out, err = diagnose(data)
    assert (code, out) == (2, "")
    assert "already contains a run" in err
    assert "--resume" in err


@pytest.mark.slow
def test_an_input_that_failed_shows_in_the_exit_code_and_json_is_the_summary(tree: Tree) -> None:
    data = tree(1)
    (data / "ant" / "broken.png").write_bytes(b"nothing")
    code, out, err = diagnose(data, "--json", "-o", "run", "-q")
    assert code == 4, err
    assert json.loads(out) == json.loads((data.parent / "run/summary.json").read_text())
    assert json.loads(out)["counts"]["bad input"] == 1


@pytest.mark.slow
def test_ctrl_c_finishes_the_block_and_says_how_to_go_on(tree: Tree) -> None:
    data = tree(20)
    process = begin(data)
    rows = data.parent / "cvx-diagnose" / "rows"
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(rows.glob("block-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Finishing the current block" in err
    done = len(list(rows.glob("block-*")))
    assert 0 < done < 25
    assert f"{25 - done} of 25 blocks in cvx-diagnose are pending; resume with --resume" in err
    code, out, err = diagnose(data, "--resume")
    assert code == 0, err
    assert out.startswith("100 of 100 inputs predicted")


def test_an_interruption_before_the_first_block_says_how_to_go_on(tree: Tree) -> None:
    stop = "        raise KeyboardInterrupt\n"
    net = NET.replace("        time.sleep(0.02)\n", stop)
    data = tree(1)
    code, _, err = diagnose(data, net=net)
    assert code == 130, err
    assert "No block is finished; run it again with --resume" in err
    code, out, err = diagnose(data, "--resume")
    assert code == 0, err
    assert out.startswith("5 of 5 inputs predicted")


def test_a_part_that_is_none_is_refused(tree: Tree) -> None:
    code, _, err = diagnose(tree(1), "--shard", "4/4")
    assert code == 2
    assert "I/N with 0 <= I < N" in err


def test_names_of_columns_and_classes_can_be_given(tree: Tree) -> None:
    data = tree(1)
    lines = [f"{one.parent.name}/{one.name};X{one.parent.name}" for one in data.glob("*/*.png")]
    (data / "a.csv").write_text("\n".join(["where;what", *lines]))
    (data.parent / "map.json").write_text(json.dumps({f"X{one}": one for one in CLASSES}))
    options = ("--path-column", "where", "--label-column", "what", "--classes-map", "map.json")
    (data.parent / "net.py").write_text(NET)
    command = [sys.executable, "-m", "cvx_core.cli", "diagnose", "data/a.csv", "-m", "net.py:make"]
    done = subprocess.run(
        [*command, "--budget", "0", "-o", "run", *options],
        cwd=data.parent,
        capture_output=True,
        text=True,
        preexec_fn=reset_signals,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((data.parent / "run" / "summary.json").read_text())
    assert summary["accuracy"]["total"] == len(CLASSES)


def test_a_limit_that_is_not_met_and_a_regression_exit_with_7_and_quiet_prints_errors_only(
    tree: Tree,
) -> None:
    data = tree(12)
    made = "return VisionModel(convolutional().module"
    always = "\ndef always(c):\n    m = convolutional().module\n    m.head.bias.data[c] += 1e4\n"
    nets = [
        NET.replace(made, f"return VisionModel(always({c})") + always + "    return m\n"
        for c in (0, 1)
    ]
    code, out, err = diagnose(data, "-o", "old", "-q", "--fail-under", "accuracy=0.2", net=nets[0])
    assert (code, out, err) == (0, "", "")
    limits = ("--compare", "old", "--fail-under", "worst-group=0.5")
    code, out, err = diagnose(data, "-o", "new", "-q", *limits, net=nets[1])
    assert (code, out) == (7, ""), err
    lines = err.splitlines()
    assert lines[0] == "cvx: worst-group is 0, and must be at least 0.5."
    assert lines[1].startswith("cvx: worse than in old: accuracy of ant went from 100.0 % to 0.0 %")
    assert len(lines) == 2
