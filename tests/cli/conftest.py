"""The command ``cvx`` as a subprocess, beside a plugin that goes wrong on purpose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli.forking import Forks
from PIL import Image

from cvx_core.cli import main
from cvx_core.plugins import discovery
from cvx_core.plugins.component_registry import Registry

HERE = Path(__file__).parent
LITTLE = f"{HERE / 'little.py'}"
_forks: Forks | None = None


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def run(self) -> dict[str, Any]:
        """The content of ``cvx-out/run.json``."""
        document: dict[str, Any] = json.loads((self.folder / "cvx-out/run.json").read_bytes())
        return document

    @property
    def files(self) -> set[str]:
        """All files below ``cvx-out``, relative to it, but those that ``--resume`` reads."""
        top = self.folder / "cvx-out"
        found = {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}
        return {file for file in found if not file.startswith(".cvx-run/")}

    @property
    def traced(self) -> bool:
        """Whether there is a traceback."""
        return "Traceback" in self.err


class Cvx:
    """Runs ``cvx`` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, *arguments: str | bytes | Path) -> list[Any]:
        """Return the command as an argument list."""
        script = shutil.which("cvx", path=str(Path(sys.executable).parent))
        return [*([script] if script else [sys.executable, "-m", "cvx_core.cli"]), *arguments]

    def environment(self, **variables: str) -> dict[str, str]:
        """Return variables in which the stub plugin is found and nothing of the user's is."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CVX_", "PYTHON"))}
        return {**kept, "PYTHONPATH": str(HERE / "site"), "COLUMNS": "100", **variables}

    def __call__(self, *arguments: str | bytes | Path, **variables: str) -> Outcome:
        done = self._fork(*arguments) if not variables and hasattr(os, "fork") else None
        done = done or subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(**variables),
            capture_output=True,
            timeout=240,
        )
        return Outcome(
            done.returncode,
            done.stdout.decode("utf-8", "surrogateescape"),
            done.stderr.decode("utf-8", "surrogateescape"),
            self.folder,
        )

    def _fork(self, *arguments: str | bytes | Path) -> subprocess.CompletedProcess[bytes]:
        global _forks
        environment = self.environment()
        _forks = _forks or Forks(environment)
        return _forks.run(["cvx", *arguments], self.folder, environment)

    def explain(self, *arguments: str | bytes | Path, **variables: str) -> Outcome:
        """Explain with the little model and, unless others are named, one quick explainer."""
        words = [a for a in arguments if isinstance(a, str)]
        model = [] if "-m" in words else ["-m", f"{LITTLE}:make"]
        explainer = [] if "-e" in words else ["-e", "stub-any"]
        renderer = [] if "-r" in words else ["-r", "stub-map", "-r", "stub-page"]
        return self("explain", *arguments, *model, *explainer, *renderer, **variables)


@pytest.fixture
def cvx(tmp_path: Path) -> Cvx:
    """The command, in a folder with three one-coloured images and two that are none."""
    paint(tmp_path)
    return Cvx(tmp_path)


@pytest.fixture
def inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """The command in this process, with no components but those that a test registers."""
    paint(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(discovery, "_registry", Registry(strict=False))

    def call(*arguments: str) -> Outcome:
        capfd.readouterr()
        code = main(arguments)
        return Outcome(code, *capfd.readouterr(), tmp_path)

    return call


@pytest.fixture
def installed(
    inside: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """The command in this process, with the components of the installed plugins."""
    monkeypatch.setattr(discovery, "_registry", None)
    return inside


def paint(folder: Path) -> None:
    """Write red.png, green.png, dark.png, broken.png and empty.png."""
    for name, colour in {"red": (230, 90, 90), "green": (90, 230, 90), "dark": (9, 0, 0)}.items():
        Image.new("RGB", (24, 16), colour).save(folder / f"{name}.png")
    whole = (folder / "red.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")


@pytest.fixture
def photo() -> Callable[[str], Path]:
    """Paths of the photographs."""
    return lambda stem: HERE / "photos" / f"{stem}.jpg"
