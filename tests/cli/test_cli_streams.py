"""How the command meets its streams and signals: missing, full, or told to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cvx_score.checks.randomization import Randomization
from dispositions import signals_reset

from cvx_core import (
    Artifact,
    Attribution,
    Explainer,
    ExplainRequest,
    Explanation,
    Requirements,
    register,
)
from cvx_core.cli.kit.console import say
from cvx_core.cli.kit.signals import INTERRUPTED, Ended, heeding_signals, interruption_code
from cvx_core.errors import OutputError
from cvx_core.explanations import output_folder as output
from cvx_core.explanations.renderer import Renderer

if TYPE_CHECKING:
    from conftest import Cvx, Outcome

LITTLE = str(Path(__file__).parent / "little.py")


@dataclass(frozen=True)
class Signalled(Explainer):
    """Sends a signal to the program at the second image."""

    number: int = signal.SIGTERM

    def requirements(self) -> Requirements:
        return Requirements("input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        if request.inputs.mean() < -1:
            os.kill(os.getpid(), self.number)
        logits = request.recording(self.requirements()).logits
        return [Attribution(request.inputs.mean(1)) for _ in request.seeds(logits)]


@dataclass(frozen=True)
class Each(Renderer):
    """A file for each map."""

    suffix = ".map"

    def draw(self, explanations: list[Explanation]) -> Artifact:
        return Artifact(".map", "text/plain", explanations[0].title.encode())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_ends_a_run_in_order_with_what_was_finished(
    inside: Callable[..., Outcome], number: int, code: int
) -> None:
    register(Signalled)
    register(Each)
    with signals_reset():
        before = signal.getsignal(number)
        done = inside(
            *["explain", "red.png", "dark.png", "-m", f"{LITTLE}:make"],
            *["-e", f"signalled:number={int(number)}", "-r", "each"],
        )
        assert signal.getsignal(number) == before
    assert (done.code, done.traced) == (code, False)
    assert done.run["status"] == "interrupted"
    assert [image["status"] for image in done.run["images"]] == ["explained", "pending"]
    assert len([file for file in done.files if file.endswith(".map")]) == 1


@dataclass(frozen=True)
class First(Signalled):
    """The same without the signal."""

    number: int = 0


@pytest.mark.parametrize("sanity", [False, True])
def test_what_was_made_of_the_image_in_work_is_drawn_all_the_same(
    inside: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, sanity: bool
) -> None:
    """Of two methods the second is interrupted, or, where maps are checked, their check."""
    for one in (First, Signalled, Each):
        register(one)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    if sanity:
        register(Randomization)
        monkeypatch.setattr(Randomization, "check", interrupted)
    methods = ["-e", "first", *(["--sanity"] if sanity else ["-e", "signalled:number=2"])]
    with signals_reset():
        done = inside("explain", "dark.png", "-m", f"{LITTLE}:make", *methods, "-r", "each")
    assert (done.code, done.traced) == (130, False)
    assert len([file for file in done.files if file.endswith(".map")]) == 1
    [image] = done.run["images"]
    assert (done.run["status"], image["status"]) == ("interrupted", "partly")
    [kept] = image["explanations"]
    assert (kept["explainer"], kept["sanity"]) == ("first", "unclear" if sanity else None)


def test_a_full_disk_does_not_leave_a_run_that_seems_to_go_on(
    inside: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(First)
    register(Each)
    write, files = output.write_atomic, []

    def full(path: Path, data: bytes, *, overwrite: bool = False) -> Path:
        files.append(path)
        if len(files) > 1:  # after the first run.json
            raise OutputError(
                f"{path} could not be written: No space left on device.", "Make room."
            )
        return write(path, data, overwrite=overwrite)

    monkeypatch.setattr(output, "write_atomic", full)
    done = inside("explain", "red.png", "-m", f"{LITTLE}:make", "-e", "first", "-r", "each")
    assert "No space left" in done.err
    assert done.run["status"] == "failed"


def test_a_program_that_ends_does_not_search_what_torch_made_for_cycles(cvx: Cvx) -> None:
    """That takes Python seconds. What is registered first is run last."""
    asked = (
        "import atexit, gc, sys; atexit.register(lambda: print(gc.get_freeze_count() > 0)); "
        "sys.argv = ['cvx', '--version']; from cvx_core.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], env=cvx.environment(), capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "True"


def test_a_signal_before_the_run_ends_the_command_with_its_code(
    inside: Callable[..., Outcome], tmp_path: Path
) -> None:
    register(Signalled)
    register(Each)
    (tmp_path / "net.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    done = inside("explain", "red.png", "-m", "net.py:make", "-e", "signalled", "-r", "each")
    assert (done.code, done.traced, done.files) == (143, False, set())
    assert "cvx: interrupted" in done.err


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with heeding_signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_code_of_an_interruption_is_found_behind_other_exceptions() -> None:
    wrapped = RuntimeError()
    wrapped.__cause__ = Ended(signal.SIGTERM)
    assert interruption_code(wrapped) == 128 + 15
    assert interruption_code(KeyboardInterrupt()) == INTERRUPTED == 128 + signal.SIGINT


def shell(cvx: Cvx, arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f'"$@" {arguments}', "bash", *cvx.command()],
        cwd=cvx.folder,
        env=cvx.environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.parametrize("command", ["--help", "plugins", "stub-command x"])
def test_a_full_standard_output_is_an_error_of_one_line(cvx: Cvx, command: str) -> None:
    done = shell(cvx, f"{command} > /dev/full")
    assert done.returncode == 1
    assert "Standard output can't be written to: No space left on device." in done.stderr
    assert "internal error" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0)])
def test_streams_that_the_caller_closed_cost_only_what_would_go_there(
    cvx: Cvx, closed: str, code: int
) -> None:
    done = shell(cvx, f"plugins --json {closed}")
    assert (done.returncode, "error" in done.stderr.lower()) == (code, False)
    if closed == "2>&-":
        assert json.loads(done.stdout)["schema"] == "cvx.plugins/1"


def test_a_full_standard_error_does_not_change_the_answer(cvx: Cvx) -> None:
    assert shell(cvx, "no-such-command 2> /dev/full").returncode == 2
    assert json.loads(shell(cvx, "plugins --json 2> /dev/full").stdout)["components"]


def test_what_is_said_acts_on_nothing_and_keeps_its_columns(
    capfd: pytest.CaptureFixture[str],
) -> None:
    say("Install it:  pip install -e na\x1b[2Jme\n  \u202eTest it")
    assert capfd.readouterr().err == "Install it:  pip install -e na\\x1b[2Jme\n  \\u202eTest it\n"


def test_a_closed_stream_is_not_taken_for_a_file_of_the_run(cvx: Cvx) -> None:
    # File descriptor 1 is free, and the next file that is opened would be called so.
    done = shell(cvx, f"explain red.png -m {LITTLE}:make -e stub-any -r stub-map -r stub-page >&-")
    assert (done.returncode, "internal error" in done.stderr) == (0, False)
    page = cvx.folder / "cvx-out/index.html"
    assert page.read_text() == "red.png stub-any: why red fox?"
