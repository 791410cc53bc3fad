"""The test environment: its dependencies, and temporary environments with plugins in them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
_RERUN = "CVX_TESTS_RERUN"

# Model hubs are never asked, and several test processes must share the cores.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spread a run of all tests over the cores, file by file, where pytest-xdist is there."""
    if hasattr(config, "workerinput"):  # a worker that started workers would never stop
        return
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    option = config.option
    interactive = option.usepdb or option.trace or option.collectonly
    # None: neither -n nor the absence of the plugin has decided it.
    if everything and not interactive and getattr(option, "numprocesses", 0) is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        option.numprocesses, option.dist = min(4, cores), "loadfile"


def pytest_configure(config: pytest.Config) -> None:
    """Fetch the `test` dependency group where it is missing (docs/adr/0003)."""
    if importlib.util.find_spec("hypothesis") is not None:
        from hypothesis import settings

        # How long an example takes depends on who else uses the machine.
        settings.register_profile("cvx", deadline=None)
        settings.load_profile("cvx")
        return
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None or _RERUN in os.environ:
        raise pytest.UsageError(_how_to_install())
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    arguments = [str(argument) for argument in config.invocation_params.args]
    command = [uv, "run", "--group", "test", "pytest"]
    os.environ[_RERUN] = "1"
    print("Fetching the packages that only the tests need (once) ...", file=sys.stderr, flush=True)
    os.execvp(uv, [*command, *arguments])


def _how_to_install() -> str:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    group = [word for word in project["dependency-groups"]["test"] if not word.startswith("cvx")]
    return (
        "The tests need packages that are not installed here. With uv: 'uv run --group test "
        "pytest'. With pip, beside cvx and its plugins: pip install "
        + " ".join(f"'{requirement}'" for requirement in group)
    )


@dataclass
class Environment:
    """An interpreter that sees this repository's dependencies but none of its plugins."""

    folder: Path
    sites: list[Path] = field(default_factory=list)
    interpreter: str | None = None

    def install(self, name: str, module: str, code: str, group: str = "cvx.plugins.v1") -> Path:
        """Write a project, build its wheel and unpack it as an installer does."""
        project = self.folder / "projects" / name
        package = project / "src" / module
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "plugin.py").write_text(code)
        (project / "pyproject.toml").write_text(
            f"""
            [build-system]
            requires = ["hatchling"]
            build-backend = "hatchling.build"
            [project]
            name = "{name}"
            version = "1.0"
            [project.entry-points."{group}"]
            main = "{module}.plugin"
            [tool.hatch.build.targets.wheel]
            packages = ["src/{module}"]
            """
        )
        return self.unpack(self.wheel(project))

    def wheel(self, project: Path) -> Path:
        """Build a wheel as a package installer would, without isolation and without network."""
        from hatchling import build

        wheels = self.folder / "wheels"
        wheels.mkdir(exist_ok=True)
        with chdir(project):
            return wheels / build.build_wheel(str(wheels))

    def unpack(self, wheel: Path) -> Path:
        """Install a wheel: for pure Python that is unpacking it."""
        site = self.folder / "sites" / wheel.stem
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        self.sites.append(site)
        return site

    def make_virtual(self) -> Path:
        """Turn to a virtual environment of its own, with pip, and return its folder of programs."""
        folder = self.folder / "venv"
        venv.create(folder, with_pip=True)
        programs = folder / ("Scripts" if os.name == "nt" else "bin")
        self.interpreter = str(programs / "python")
        return programs

    def run(self, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run code in a fresh interpreter."""
        return self.python("-c", code, **variables)

    def python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the interpreter with arguments."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CVX_", "PYTHON"))}
        search = [*map(str, self.sites), str(self.folder / "dependencies")]
        interpreter = [sys.executable, "-S"] if self.interpreter is None else [self.interpreter]
        return subprocess.run(
            [*interpreter, *arguments],
            env={**kept, "PYTHONPATH": os.pathsep.join(search), **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def ask(self, code: str, **variables: str) -> Any:
        """Run code that prints one JSON value, and return the value."""
        done = self.run(code, **variables)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def bare_environment(tmp_path: Path) -> Environment:
    """Dependencies only: no cvx at all."""
    # Links leave out what is installed of cvx here, which would otherwise be found as well.
    dependencies = tmp_path / "dependencies"
    dependencies.mkdir()
    for entry in sorted(Path(pytest.__file__).parents[1].iterdir()):
        if "cvx" not in entry.name and entry.suffix != ".pth":
            (dependencies / entry.name).symlink_to(entry)
    return Environment(tmp_path)


@pytest.fixture
def environment(bare_environment: Environment) -> Environment:
    """The core of this repository, and no plugin."""
    site = bare_environment.folder / "core"
    site.mkdir()
    (site / "cvx_core").symlink_to(REPOSITORY / "cvx_core")
    bare_environment.sites.append(site)
    return bare_environment
