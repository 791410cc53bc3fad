"""The configuration file: defaults of options, below the command line and the environment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Outcome

LITTLE = f"{Path(__file__).parent / 'little.py'}:make"
EXPLAIN = f"""
model = {LITTLE!r}
renderers = ["json"]
explainers = ["saliency"]
output = "maps"
quiet = true
"""


def methods(folder: str) -> list[str]:
    document = json.loads(Path(folder, "explanations.json").read_text())
    return [one["method"] for one in document["explanations"]]


def test_the_file_sets_defaults_and_the_command_line_wins(
    installed: Callable[..., Outcome],
) -> None:
    Path("cvx.toml").write_text(f"[explain]{EXPLAIN}")
    done = installed("explain", "red.png")
    assert (done.code, done.err) == (0, "")
    assert done.out.strip() == "maps/explanations.json"
    assert methods("maps") == ["saliency"]
    done = installed("explain", "red.png", "-o", "other", "-e", "input-x-gradient")
    assert done.out.strip() == "other/explanations.json"
    assert methods("other") == ["input-x-gradient"]


def test_a_project_has_a_table_for_it_and_the_environment_wins(
    installed: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pyproject.toml").write_text('[tool.cvx.classes]\nmodel = "none:none"\njson = true\n')
    monkeypatch.delenv("CVX_MODEL", raising=False)
    assert "'none'" in installed("classes").err
    monkeypatch.setenv("CVX_MODEL", LITTLE)
    assert json.loads(installed("classes").out)["schema"] == "cvx.classes/1"
    Path("cvx.toml").write_text("[classes]\njson = false\n")
    assert not installed("classes").out.startswith("{")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[clases]\n", "Unknown command 'clases' in cvx.toml.\n     Did you mean 'classes' or"),
        (
            "[classes]\nmodl = 'a'\n",
            "Unknown option 'modl' of 'classes' in cvx.toml.\n     Did you",
        ),
        ("classes = 3\n", "'classes' must be a table in cvx.toml.\n     Write [classes]."),
        ("[classes]\njson = 1\n", "'json' of 'classes' must be true or false in cvx.toml, got 1"),
        (
            "[classes]\nmodel = ['a']\n",
            "'model' of 'classes' must be a value in cvx.toml, got ['a']",
        ),
        ("[classes]\ntrust-checkpoint = true\n", "Pass --trust-checkpoint on the command line."),
        ("[classes\n", "cvx.toml can't be read: "),
    ],
)
def test_a_wrong_file_is_a_usage_error(
    installed: Callable[..., Outcome], content: str, said: str
) -> None:
    Path("cvx.toml").write_text(content)
    done = installed("classes")
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert installed("--help").code == 0


def test_an_option_that_may_be_repeated_takes_a_list(installed: Callable[..., Outcome]) -> None:
    Path("cvx.toml").write_text("[explain]\nrenderers = 'json'\n")
    done = installed("explain", "red.png")
    assert done.code == 2
    assert "'renderers' of 'explain' must be a list in cvx.toml, got 'json'" in done.err


def test_doctor_lists_each_value_with_its_source_and_what_is_wrong(
    installed: Callable[..., Outcome],
) -> None:
    def found() -> dict[str, tuple[str, bool, str]]:
        findings = json.loads(installed("doctor", "--json").out)["findings"]
        return {
            one["name"]: (one["value"], one["problem"], one["hint"])
            for one in findings
            if one["area"] == "configuration"
        }

    assert not found()
    Path("cvx.toml").write_text("[why]\nbudget = 50\n[explain]\nrenderers = ['json']\n")
    assert found() == {
        "why.budget": ("50 (cvx.toml)", False, ""),
        "explain.renderers": ('["json"] (cvx.toml)', False, ""),
    }
    Path("cvx.toml").write_text("[why]\nbudgets = 50\n")
    said = "Unknown option 'budgets' of 'why' in cvx.toml."
    assert found() == {"why": (said, True, "Did you mean 'budget'?")}
