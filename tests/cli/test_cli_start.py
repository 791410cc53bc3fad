"""How the command starts: at once, and saying what there is."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from cvx_embedded import photographs

from cvx_core.plugins.discovery import registry

if TYPE_CHECKING:
    from conftest import Cvx

LIGHT = """
import sys
sys.argv = ["cvx", *sys.argv[1:]]
from cvx_core.cli import main
code = main()
heavy = {"torch", "numpy", "PIL", "rich", "matplotlib"} & set(sys.modules)
work = [m for m in sys.modules if m.startswith("cvx_") and m.count(".") and "." in m]
work = [m for m in work if not m.startswith("cvx_core.") and not m.endswith(".plugin")]
print(code, sorted(heavy), work, file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], ["explain", "--help"]])
def test_help_and_version_import_nothing_heavy_and_no_work_of_plugins(
    cvx: Cvx, arguments: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *arguments],
        env=cvx.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "0 [] []"


@pytest.mark.parametrize("command", sorted(registry().names("command")))
def test_help_of_a_command_imports_nothing_heavy(cvx: Cvx, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, command, "--help"],
        env=cvx.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1].startswith("0 [] ")


def test_ctrl_c_while_the_program_is_imported_is_no_traceback(cvx: Cvx) -> None:
    (cvx.folder / "click.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-m", "cvx_core.cli", "--help"],
        env=cvx.environment(PYTHONPATH=str(cvx.folder)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "cvx: interrupted\n")


EXPLAINED = """
import sys
from cvx_core.cli import main
sys.argv = ["cvx", "explain", sys.argv[1], "-e", "grad-cam", "-r", "npz", "-q"]
code = main()
slow = {"timm", "torchvision", "torch._dynamo", "matplotlib", "scipy", "jinja2", "rich"}
print(code, sorted(slow & set(sys.modules)), file=sys.stderr)
"""


def test_an_explanation_imports_only_what_it_needs(cvx: Cvx) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXPLAINED, photographs()[0].path],
        env=cvx.environment(),
        cwd=cvx.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "0 []"


def test_help_lists_the_commands_of_cvx_and_of_plugins_in_one_sorted_list(cvx: Cvx) -> None:
    out = cvx("--help").out
    section = out.partition("\nCommands:\n")[2].partition("\n\n")[0]
    names = re.findall(r"^  (\S+)", section, re.MULTILINE)
    assert names == sorted(names)
    assert {"classes", "explain", "layers", "models", "plugins", "render"} <= set(names)
    assert {"stub-command", "demo"} <= set(names)
    assert re.search(r"^  stub-command +A command of a plugin\.$", section, re.MULTILINE)
    assert "Start with: cvx demo" in out


def test_version_is_that_of_the_distribution(cvx: Cvx) -> None:
    assert cvx("--version").out == f"cvx, version {version('cvx-core')}\n"


def test_without_a_command_the_help_goes_to_standard_error(cvx: Cvx) -> None:
    done = cvx()
    assert (done.code, done.out) == (2, "")
    assert "explain" in done.err


def test_a_plugins_command_runs_with_its_own_exit_code(cvx: Cvx) -> None:
    done = cvx("stub-command", "hello")
    assert (done.code, done.out) == (7, "hello\n")


def test_an_unknown_command_suggests_the_nearest_also_among_plugins(cvx: Cvx) -> None:
    done = cvx("explian")
    assert done.code == 2
    assert "Did you mean 'explain'" in done.err
    assert "Did you mean 'stub-command'" in cvx("stub-comand").err


def test_an_unknown_option_is_a_usage_error(cvx: Cvx) -> None:
    done = cvx("explain", "red.png", "--lable", "fox")
    assert (done.code, done.out, done.traced) == (2, "", False)
    assert "--label" in done.err


def test_a_plugins_command_that_raises_is_one_line_and_with_v_a_traceback(cvx: Cvx) -> None:
    done = cvx("stub-crash")
    assert (done.code, done.traced) == (6, False)
    assert "cvx: The command 'stub-crash' failed: ZeroDivisionError: division by zero" in done.err
    assert cvx("-v", "stub-crash").traced


def test_a_component_that_is_no_command_is_the_plugins_fault(cvx: Cvx) -> None:
    done = cvx("stub-no-command")
    assert (done.code, done.traced) == (6, False)
    assert "must be a click.Command" in done.err


def test_plugins_lists_kind_name_package_and_summary(cvx: Cvx) -> None:
    done = cvx("plugins")
    assert done.code == 0
    [row] = [line for line in done.out.splitlines() if " stub-any " in line]
    assert row.split("  ")[0] == "explainer"
    assert "cvx-stub 1.0" in row
    assert "answers any question" in row


def test_what_explain_takes_by_default_is_listed_first_and_starred(cvx: Cvx) -> None:
    listed = cvx("plugins").out
    methods = [line.split() for line in listed.splitlines() if line.startswith("explainer ")]
    assert [words[2] for words in methods[:4]] == [
        "class-attention",
        "location-attention",
        "gradient-error",
        "activation-error",
    ]
    assert [words[1] == "*" for words in methods] == [True] * 4 + [False] * (len(methods) - 4)
    assert "* default of 'cvx explain'" in listed
    components = json.loads(cvx("plugins", "--json").out)["components"]
    assert {one["name"] for one in components if one["default"]} == {
        *(words[2] for words in methods[:4]),
        *("html", "figure", "embedded"),
    }


def test_what_a_plugin_prints_when_imported_is_kept_out_of_the_data(cvx: Cvx) -> None:
    done = cvx("plugins", "--json")
    assert "imported with a bang" in done.err
    names = {one["name"] for one in json.loads(done.out)["components"]}
    assert {"stub-any", "stub-map", "stub-command"} <= names


def test_a_failed_plugin_is_listed_with_its_traceback_and_said_once_elsewhere(cvx: Cvx) -> None:
    info = cvx.folder / "site/cvx_bad-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cvx-bad\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[cvx.plugins.v1]\nbad = cvx_bad\n")
    (cvx.folder / "site/cvx_bad.py").write_text("raise RuntimeError('rotten \\x1b[31m')\n")
    path = os.pathsep.join([cvx.environment()["PYTHONPATH"], str(cvx.folder / "site")])
    listed = cvx("plugins", PYTHONPATH=path).out
    assert "failed: cvx-bad:bad: RuntimeError: rotten \\x1b[31m" in listed
    assert "Traceback" not in listed
    assert "Traceback" in cvx("plugins", "--verbose", PYTHONPATH=path).out
    assert '"reason": "RuntimeError: rotten' in cvx("plugins", "--json", PYTHONPATH=path).out
    command = cvx("stub-command", "x", PYTHONPATH=path)
    assert command.code == 7
    assert "cvx: plugin cvx-bad:bad was left out" in command.err
    assert "\x1b" not in command.err


def test_disabled_plugins_are_listed_as_such(cvx: Cvx) -> None:
    out = cvx("plugins", CVX_DISABLE_PLUGINS="cvx-stub").out
    assert "disabled: cvx-stub:stub" in out
    assert "stub-any" not in out


def test_a_reader_that_goes_away_is_no_error(cvx: Cvx) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        cvx.command("plugins"),
        env=cvx.environment(),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert done.returncode == 1
    assert "Error" not in done.stderr


def test_colour_appears_on_a_terminal_only_and_never_with_no_color(cvx: Cvx) -> None:
    def seen(**variables: str) -> bytes:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            cvx.command("explain", "red.png", "-m", "nothing", "-e", "stub-any", "-r", "stub-map"),
            cwd=cvx.folder,
            env=cvx.environment(TERM="xterm-256color", **variables),
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux's way to say that the other end was closed
                break
            if not part:
                break
            parts.append(part)
        os.close(ours)
        assert process.wait() == 5
        return b"".join(parts)

    coloured = b"\x1b[3"
    assert coloured in seen()
    assert coloured not in seen(NO_COLOR="1")
    assert b"\x1b" not in cvx("explain", "red.png", "-m", "nothing", "-e", "stub-any").err.encode()
