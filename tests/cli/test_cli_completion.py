"""Completion in the shell: commands, options, components, models and targets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from cvx_core import Component, ModelSource, register
from cvx_core.cli.program import group
from cvx_core.plugins import discovery
from cvx_core.plugins.component_registry import Registry


def completed(*words: str) -> list[str]:
    """Return what the last word may become."""
    complete = ShellComplete(group, {}, "cvx", "_CVX_COMPLETE")
    return [one.value for one in complete.get_completions(list(words[:-1]), words[-1])]


def test_commands_of_the_core_and_of_plugins_are_completed() -> None:
    assert completed("e") == ["explain"]
    assert completed("sc") == ["score"]
    assert "--renderer" in completed("explain", "--re")


def test_explainers_and_renderers_are_completed_with_their_summaries() -> None:
    found = completed("explain", "photo.jpg", "-e", "grad")
    assert set(found) == {"grad-cam", "grad-cam-plus-plus", "gradient-error"}
    assert completed("score", "-e", "sali") == ["saliency"]
    assert completed("explain", "-r", "js") == ["json"]
    [one] = ShellComplete(group, {}, "cvx", "_").get_completions(["explain", "-e"], "saliency")
    assert one.help == discovery.registry().find("explainer", "saliency").summary


@pytest.mark.parametrize("words", [("explain", "-m"), ("layers", "-m"), ("classes", "-m")])
def test_models_are_completed_behind_a_colon(words: tuple[str, ...]) -> None:
    assert completed(*words, "embed") == ["embedded", "embedding"]
    assert completed(*words, "embedded:nano") == ["embedded:nanodet"]


def test_targets_of_all_tasks_are_completed() -> None:
    assert completed("explain", "-t", "p") == ["predicted", "pixel"]
    assert completed("score", "-t", "b") == ["boundary", "box"]


def test_a_plugin_that_fails_completes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModelSource):
        def load(self, name: str, **_: object) -> object:  # type: ignore[override]
            raise NotImplementedError

        def models(self) -> list[object]:  # type: ignore[override]
            raise RuntimeError("inside the plugin")

    monkeypatch.setattr(discovery, "_registry", Registry())
    register(Component("broken", "fails", Broken), kind="model source")
    assert completed("explain", "-m", "bro") == ["broken"]
    assert completed("explain", "-m", "broken:") == []


def test_the_program_answers_the_shell() -> None:
    asked = {"_CVX_COMPLETE": "bash_complete", "COMP_WORDS": "cvx expl", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from cvx_core.cli import main; raise SystemExit(main([]))"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,explain\n", "")
