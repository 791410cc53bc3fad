"""Conformance kit of commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import click
import numpy as np
import pytest
from PIL import Image

from cvx_core.cli.entry import main
from cvx_core.cli.program import COMMANDS
from cvx_core.plugins.discovery import registry
from cvx_core.testing.kits.base import HEAVY, Conformance


class CommandConformance(Conformance):
    """Checks of a command; see `Conformance` for the attributes.

    Attributes
    ----------
    arguments
        Arguments of a run that succeeds. The working folder is empty except for an image,
        ``photo.png``, of random pixels.
    """

    kind: ClassVar[str] = "command"
    arguments: ClassVar[Sequence[str] | None] = None

    def command(self) -> click.Command:
        """Return the command under test."""
        found: click.Command = registry().find(self.kind, self.component).load()
        return found

    def test_it_is_a_command_with_a_summary(self) -> None:
        """What `cvx --help` lists is a `click.Command`, and no built-in command hides it."""
        command = self.command()
        assert isinstance(command, click.Command)
        assert (command.help or "").strip(), "the function has no docstring"
        assert self.component.partition("@")[0] not in COMMANDS, "a built-in command hides it"

    def test_every_option_has_help(self) -> None:
        """An option without help can only be guessed."""
        options = [p for p in self.command().params if isinstance(p, click.Option)]
        assert [option.opts for option in options if not (option.help or "").strip()] == []

    def test_help_is_printed_without_loading_torch(self) -> None:
        """Imports of torch, NumPy and Pillow belong into the command's function."""
        code = (
            "import sys\n"
            f"sys.path[:] = {sys.path!r}\n"
            f"for name in {HEAVY!r}: sys.modules[name] = None\n"
            "from cvx_core.cli import main\n"
            f"raise SystemExit(main([{self.component!r}, '--help']))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Usage: "), done.stdout

    def test_an_unknown_option_is_a_usage_error(self, capfd: pytest.CaptureFixture[str]) -> None:
        """Exit code 2, with the reason on standard error and nothing on standard output."""
        assert main([self.component, "--no-such-option-of-ours"]) == 2
        printed = capfd.readouterr()
        assert printed.out == ""
        assert "--no-such-option-of-ours" in printed.err

    def test_it_runs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """With the arguments of the subclass: exit code 0, and something is printed."""
        if self.arguments is None:
            pytest.skip("the subclass gives no arguments")
        pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photo.png")
        monkeypatch.chdir(tmp_path)
        code = main([self.component, *self.arguments])
        printed = capfd.readouterr()
        assert code == 0, printed.err
        assert printed.out.strip()
