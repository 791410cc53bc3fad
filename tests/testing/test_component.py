"""``pytest --pyargs cvx_core.testing --cvx-component NAME`` tests a component without a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cvx_core.testing.component.selection import kit_of
from cvx_core.testing.conformance import (
    CommandConformance,
    ExplainerConformance,
    ModelSourceConformance,
    RendererConformance,
)


@pytest.mark.parametrize(
    ("text", "base", "name"),
    [
        ("saliency", ExplainerConformance, "TestExplainerSaliency"),
        ("renderer:json", RendererConformance, "TestRendererJson"),
        ("new-plugin@cvx-new-plugin", CommandConformance, "TestCommandNewPlugin"),
    ],
)
def test_a_name_selects_the_kit_of_its_kind(text: str, base: type, name: str) -> None:
    kit = kit_of(text)
    assert issubclass(kit, base)
    assert kit.__name__ == name
    assert kit.component == text.rpartition(":")[2]


def test_a_model_source_is_tested_on_its_first_model() -> None:
    kit = kit_of("embedded")
    assert issubclass(kit, ModelSourceConformance)
    assert kit.model == "efficientnet-lite0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no-such-method", "is not installed"),
        ("renderer:saliency", "is not installed"),
        ("embedding", "several kinds: model source, task"),
        ("depth", "subclass its conformance class"),
    ],
)
def test_a_name_that_selects_no_kit_is_a_usage_error(text: str, message: str) -> None:
    with pytest.raises(pytest.UsageError, match=message):
        kit_of(text)


FILE = """
from cvx_core.testing.conformance import RendererConformance


class TestJson(RendererConformance):
    component = "json"
    expected_failures = {"test_it_survives_pickling": "it has no state"}

    def test_it_survives_pickling(self):
        raise ValueError
"""


def test_the_summary_counts_checks_and_names_expected_failures(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(FILE)
    selected = ["-k", "suffix or pickling", "-p", "no:cacheprovider"]
    command = ["--pyargs", "cvx_core.testing", "test_mine.py", "--cvx-component", "npz", *selected]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    [npz] = [line for line in lines if line.startswith("renderer npz: ")]
    assert npz.startswith("renderer npz: 2 passed in ")
    [json] = [line for line in lines if line.startswith("renderer json: ")]
    assert json.startswith("renderer json: 1 passed, 1 xfailed in ")
    assert "  expected failure: test_it_survives_pickling: it has no state" in lines
