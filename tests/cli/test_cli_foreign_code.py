"""What code that is not ours can do to a run: its own part fails, with exit code 6 (a model: 5)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click
import pytest
import torch

from cvx_core import (
    Artifact,
    Attribution,
    Component,
    Explainer,
    ExplainRequest,
    Explanation,
    LayerError,
    Renderer,
    Requirements,
    register,
)
from cvx_core.cli import program
from cvx_core.explanations import output_folder as output

if TYPE_CHECKING:
    from conftest import Outcome

    Inside = Callable[..., Outcome]

LITTLE = str(Path(__file__).parent / "little.py")


class StrangeError(BaseException):
    """No `Exception`, as some libraries' signals are."""


class MuteError(Exception):
    """An exception that fails when it is asked what happened."""

    def __str__(self) -> str:
        raise RuntimeError("not even that")


@dataclass(frozen=True)
class Plain(Explainer):
    """The input's mean over channels."""

    def requirements(self) -> Requirements:
        return Requirements("input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        logits = request.recording(self.requirements()).logits
        return [Attribution(request.inputs.mean(1)) for _ in request.seeds(logits)]


@dataclass(frozen=True)
class Page(Renderer):
    """A page of the titles."""

    suffix: ClassVar[str] = ".html"
    joins: ClassVar[bool] = True

    def draw(self, explanations: list[Explanation]) -> Artifact:
        lines = [f"{one.name} {one.title}" for one in explanations]
        return Artifact(self.suffix, "text/html", "\n".join(lines).encode())


@dataclass(frozen=True)
class Each(Renderer):
    """A file for each map."""

    suffix: ClassVar[str] = ".map"

    def draw(self, explanations: list[Explanation]) -> Artifact:
        return Artifact(".map", "text/plain", explanations[0].title.encode())


@pytest.fixture
def explain(inside: Inside) -> Callable[..., Outcome]:
    """``cvx explain`` with the little model; by default one explainer and one page."""
    for one in (Plain, Page, Each):
        register(one)

    def call(*arguments: str) -> Outcome:
        model = [] if "-m" in arguments else ["-m", f"{LITTLE}:make"]
        explainer = [] if "-e" in arguments else ["-e", "plain"]
        renderer = [] if "-r" in arguments else ["-r", "page"]
        return inside("explain", *arguments, *model, *explainer, *renderer)

    return call


def failing(base: type[Any], method: str, error: Callable[[], BaseException]) -> type[Any]:
    """Return a class like `base` called ``Bad``, in which a method raises."""

    def fail(self: Any, *_: Any, **__: Any) -> Any:
        raise error()

    return type("Bad", (base,), {method: fail, "__doc__": "Fails on purpose."})


ERRORS: list[Callable[[], BaseException]] = [
    lambda: SystemExit(0),
    lambda: StrangeError("odd"),
    MuteError,
    lambda: ZeroDivisionError("by zero"),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    ("base", "method"),
    [(Plain, "attribute"), (Plain, "__init__"), (Page, "draw"), (Page, "__init__")],
)
def test_whatever_a_plugin_raises_is_exit_code_6_and_names_what_it_was(
    explain: Callable[..., Outcome],
    base: type[Any],
    method: str,
    error: Callable[[], BaseException],
) -> None:
    register(failing(base, method, error))
    done = explain("red.png", *(["-e", "bad"] if base is Plain else ["-r", "bad"]))
    assert (done.code, done.out, done.traced) == (6, "", False)
    assert "internal error" not in done.err
    assert type(error()).__name__ in done.err


@pytest.mark.parametrize("error", ERRORS)
def test_an_explainer_that_fails_costs_its_own_maps_alone(
    explain: Callable[..., Outcome], error: Callable[[], BaseException]
) -> None:
    register(failing(Plain, "attribute", error))
    done = explain("red.png", "-e", "plain", "-e", "bad")
    assert (done.code, done.out) == (4, "cvx-out/index.html\n")
    [image] = done.run["images"]
    assert [one["explainer"] for one in image["explanations"]] == ["plain"]
    assert [one["exit_code"] for one in image["failures"]] == [6]


@pytest.mark.parametrize(
    "answer",
    [None, b"bytes", Artifact(".html", "text/html", "text"), Artifact("", "text/html", b"")],  # type: ignore[arg-type]
)
def test_a_renderer_that_returns_no_artifact_costs_its_picture_alone(
    explain: Callable[..., Outcome], answer: Any
) -> None:
    register(type("Bad", (Page,), {"draw": lambda self, _: answer}))
    done = explain("red.png", "-r", "bad", "-r", "each")
    assert (done.code, done.traced) == (6, False)
    assert "The renderer Bad" in done.err
    assert {Path(file).suffix for file in done.files} == {".json", ".map"}


@pytest.mark.parametrize("trait", ["joins", "suffix"])
def test_a_renderer_that_can_not_say_what_it_is_is_refused(
    explain: Callable[..., Outcome], trait: str
) -> None:
    broken = property(lambda self: 1 / 0)
    register(type("Bad", (Each,), {trait: broken}))
    done = explain("red.png", "-r", "bad")
    assert (done.code, done.files) == (6, set())
    assert "The renderer Bad failed: ZeroDivisionError" in done.err


def test_a_page_s_name_can_not_lead_out_of_the_folder(explain: Callable[..., Outcome]) -> None:
    register(type("Bad", (Page,), {"suffix": "/../../escaped.txt"}))
    done = explain("red.png", "-r", "bad")
    assert (done.code, done.files) == (6, set())
    assert not list(done.folder.parent.rglob("*escaped*"))


def test_a_class_that_is_not_finished_names_what_it_lacks(explain: Callable[..., Outcome]) -> None:
    register(type("Bad", (Explainer,), {"__doc__": "Half done."}))
    done = explain("red.png", "-e", "bad")
    assert done.code == 6
    assert "The explainer 'bad' does not define attribute" in done.err


def test_text_that_is_no_utf8_is_printed_all_the_same(explain: Callable[..., Outcome]) -> None:
    register(
        type(
            "Latin",
            (Page,),
            {"suffix": ".txt", "draw": lambda s, _: Artifact(".txt", "text/plain", b"caf\xe9")},
        )
    )
    assert explain("red.png", "-r", "latin").out == "caf\ufffd\n"


def test_a_plugin_that_changes_the_working_folder_moves_nothing(
    explain: Callable[..., Outcome], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def attribute(self: Plain, request: ExplainRequest) -> list[Attribution]:
        os.chdir(elsewhere)
        return Plain.attribute(self, request)

    register(type("Wanders", (Plain,), {"attribute": attribute}))
    register(type("Text", (Page,), {"suffix": ".txt"}))
    done = explain("red.png", "green.png", "-e", "wanders", "-r", "page", "-r", "text")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "cvx-out/index.html"
    assert "green.png wanders: why green mamba?" in done.out
    assert [image["status"] for image in done.run["images"]] == ["explained"] * 2
    assert not list(elsewhere.iterdir())


def test_an_explainer_without_the_layer_is_not_run_again(explain: Callable[..., Outcome]) -> None:
    asked = []

    def attribute(self: Plain, request: ExplainRequest) -> list[Attribution]:
        asked.append(request)
        raise LayerError("There is no layer 'x'.")

    register(type("Picky", (Plain,), {"attribute": attribute}))
    done = explain("red.png", "green.png", "dark.png", "-e", "picky")
    assert (done.code, len(asked)) == (5, 1)


def test_a_file_that_changes_during_a_run_is_named_by_what_was_explained(
    explain: Callable[..., Outcome],
) -> None:
    # Before the second one's turn, while the first is explained.
    def attribute(self: Plain, request: ExplainRequest) -> list[Attribution]:
        Path("green.png").write_bytes(Path("dark.png").read_bytes())
        return Plain.attribute(self, request)

    register(type("Meddles", (Plain,), {"attribute": attribute}))
    done = explain("red.png", "green.png", "-e", "meddles")
    assert done.code == 0
    digest = hashlib.sha256((done.folder / "dark.png").read_bytes()).hexdigest()
    assert done.run["images"][1]["sha256"] == digest
    assert done.run["images"][1]["folder"] == f"green-{digest[:8]}"


FACTORIES = """
import sys, torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
    def forward(self, x):
        ERROR
def make():
    from cvx_core import Preprocess, VisionModel
    return VisionModel(Net(), preprocess=Preprocess(8))
"""


@pytest.mark.parametrize(
    "error",
    ["raise RuntimeError('shapes')", "sys.exit(0)", "self.nothing", "raise BaseException()"],
)
@pytest.mark.parametrize("target", [[], ["-t", "1"]])
def test_a_model_that_fails_in_its_forward_pass_is_exit_code_5(
    explain: Callable[..., Outcome], tmp_path: Path, error: str, target: list[str]
) -> None:
    (tmp_path / "net.py").write_text(FACTORIES.replace("ERROR", error))
    done = explain("red.png", "-m", "net.py:make", *target)
    assert (done.code, done.out, done.traced) == (5, "", False)
    assert "failed" in done.err
    assert "internal error" not in done.err


@pytest.mark.parametrize("error", ["raise SystemExit(0)", "raise BaseException('odd')"])
def test_a_model_file_that_exits_is_exit_code_5(
    explain: Callable[..., Outcome], tmp_path: Path, error: str
) -> None:
    (tmp_path / "net.py").write_text(error)
    assert explain("red.png", "-m", "net.py:make").code == 5


def test_what_a_model_file_prints_does_not_spoil_the_document(
    explain: Callable[..., Outcome], tmp_path: Path
) -> None:
    loud = "print('in Python')\nimport os, subprocess\nos.write(1, b'below Python\\n')\n"
    loud += "subprocess.run(['echo', 'in a child'])\nimport sys\nsys.__stdout__.write('kept')\n"
    (tmp_path / "net.py").write_text(loud + Path(LITTLE).read_text())
    done = explain("red.png", "-m", "net.py:make", "--json")
    assert json.loads(done.out) == done.run
    for said in ("in Python", "below Python", "in a child"):
        assert said in done.err


@click.command()
def exits() -> None:
    """End the program."""
    raise SystemExit(0)


@click.command()
def odd() -> None:
    """Raise what is no Exception."""
    raise StrangeError("odd")


@pytest.mark.parametrize("command", [exits, odd])
def test_a_command_that_ends_the_program_is_exit_code_6(
    inside: Inside, command: click.Command
) -> None:
    register(Component("bad-command", "", command), kind="command")
    done = inside("bad-command")
    assert (done.code, done.traced) == (6, False)
    assert "The command 'bad-command' failed: " in done.err


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_command_that_runs_out_of_memory_is_no_fault_of_its_author(
    inside: Inside, error: BaseException
) -> None:
    @click.command()
    def large() -> None:
        """Allocate too much."""
        raise error

    register(Component("large", "", large), kind="command")
    done = inside("large")
    assert (done.code, done.traced) == (5, False)
    assert "cvx: Out of memory (" in done.err
    assert "Use smaller images" in done.err
    assert "author" not in done.err


def test_a_bug_of_ours_is_one_line_and_with_v_a_traceback(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "import_module", lambda name: 1 / 0)
    done = inside("plugins")
    assert (done.code, done.traced) == (1, False)
    assert "cvx: internal error: ZeroDivisionError: division by zero" in done.err
    assert "cvx -v" in done.err
    assert inside("-v", "plugins").traced


def test_a_plugins_verb_that_has_the_name_of_one_of_ours_is_listed_as_hidden(
    inside: Inside,
) -> None:
    register(Component("explain", "another explain", exits), kind="command")
    assert "hidden by a built-in one: the command explain of this program" in inside("plugins").out
    [row] = json.loads(inside("plugins", "--json").out)["components"]
    assert (row["name"], row["hidden"]) == ("explain", True)


def test_the_run_that_loses_the_race_for_a_folder_is_refused_as_any_second_run(
    explain: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = tmp_path / "cvx-out/run.json"
    winner.parent.mkdir()
    winner.write_text("theirs")
    # The folder was free when this run looked.
    monkeypatch.setattr(output.Folder, "check", lambda self, names: None)
    done = explain("red.png")
    assert (done.code, winner.read_text()) == (2, "theirs")
    assert "File already exists: cvx-out/run.json" in done.err
    assert "--force" in done.err
