"""Packages of new plugins: their names, their files, and what their components do at once."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cvx_new_plugin.kinds import KINDS
from cvx_new_plugin.package import Package

import cvx_core as cvx
from cvx_core.cli import main
from cvx_core.plugins import Registry
from cvx_core.testing import models
from cvx_core.testing.conformance import CommandConformance
from cvx_core.testing.samples import sample_explanation

NAMES = {
    "explainer": "pixel-contribution",
    "renderer": "value-table",
    "model": "lab",
    "task": "grade",
    "command": "top-classes",
    "engine": "in-turn",
}


class TestNewPlugin(CommandConformance):
    component = "new-plugin"
    arguments = ("renderer", "value-table")


@pytest.fixture(params=KINDS)
def package(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Package]:
    """A package of each kind, on the path of imports."""
    made = Package(request.param, NAMES[request.param])
    made.write(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / made.distribution / "src")
    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == made.package]:
        del sys.modules[name]


def test_the_plugin_offers_one_component_of_its_kind(package: Package) -> None:
    from cvx_engine import plugin as engines

    found = Registry(strict=True)
    if package.kind == "engine":
        found.register(engines, "cvx-engine:engine")
    found.register(importlib.import_module(f"{package.package}.plugin"), "mine:main")
    component = found.find(package.details.thing, package.name)
    assert component.summary == package.details.summary
    thing = component.load()
    if package.kind == "command":
        assert isinstance(thing, click.Command)
    else:
        assert found.kinds[package.details.thing].holds(thing)
        assert isinstance(thing(), thing)


def test_the_project_file_names_the_plugin_module(package: Package, tmp_path: Path) -> None:
    project = tomllib.loads((tmp_path / package.distribution / "pyproject.toml").read_text())
    assert project["project"]["name"] == package.distribution
    assert project["project"]["entry-points"] == {
        "cvx.plugins.v1": {"main": f"{package.package}.plugin"}
    }
    assert "cvx-core>=0.1,<1" in project["project"]["dependencies"]
    assert set(package.details.dependencies) < set(project["project"]["dependencies"])


def test_no_placeholder_is_left_in_a_file_or_its_name(package: Package) -> None:
    for path, text in package.files().items():
        assert not any(word in path for word in ("PACKAGE", "NAME", "jinja", "dot-"))
        assert "{%" not in text
        assert "{{" not in text.replace("${{", "")
        assert not path.endswith(".py") or compile(text, path, "exec")


def test_the_explainer_and_the_renderer_do_something_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("explainer", "renderer"):
        made = Package(kind, f"sample-{kind}")
        made.write(tmp_path)
        monkeypatch.syspath_prepend(tmp_path / made.distribution / "src")
    explainer = importlib.import_module("cvx_sample_explainer.explainer").SampleExplainer()
    [found] = explainer.explain(models.quadrants(), models.inputs(1), cvx.ClassScore(0))
    # Logit 0 is ten times the mean of the upper left quarter: the map is there and sums to it.
    assert found.values.sum() == pytest.approx(found.target.score, rel=1e-5)
    assert not found.values[16:].any()
    renderer = importlib.import_module("cvx_sample_renderer.renderer").SampleRenderer(digits=4)
    one = sample_explanation()
    assert renderer.render(one).text().splitlines()[0].split(",")[0] == f"{one.values[0, 0]:.4g}"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("explainer", "MyMethod", "'my-method'"),
        ("explainer", "my_method", "'my-method'"),
        ("explainer", "3d", "'d'"),
        ("explainer", "", "'my-method'"),
        ("explainer", "../up", "'up'"),
        ("explainer", "explainer", "class Explainer exists"),
        ("explainer", "exception", "class Exception exists"),
        ("explainer", "saliency", "explainer 'saliency' is already installed"),
        ("command", "score", "'cvx_score' is already installed"),
        ("command", "explain", "built-in command"),
        ("explainers", "mine", "kind must be one of"),
    ],
)
def test_a_name_that_cannot_be_used_is_an_error(kind: str, name: str, message: str) -> None:
    with pytest.raises(cvx.UsageError) as caught:
        Package(kind, name)
    assert message in str(caught.value)
    assert caught.value.hint


def test_existing_files_stay(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cvx-value-table" / "notes.txt"
    file.parent.mkdir()
    file.write_text("mine")
    assert main(["new-plugin", "renderer", "value-table", "-o", str(tmp_path)]) == 1
    assert "already exists" in capfd.readouterr().err
    assert [p.name for p in file.parent.iterdir()] == ["notes.txt"]


def test_a_full_disk_leaves_nothing_that_stops_the_next_try(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes
    with monkeypatch.context() as full:

        def refuse(path: Path, data: bytes) -> int:
            if path.name == "pyproject.toml":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(path, data)

        full.setattr(Path, "write_bytes", refuse)
        assert main(["new-plugin", "renderer", "value-table", "-o", str(tmp_path)]) == 1
    assert "cvx-value-table could not be written: No space left" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["new-plugin", "renderer", "value-table", "-o", str(tmp_path)]) == 0
    assert [one.name for one in tmp_path.iterdir()] == ["cvx-value-table"]


def test_the_command_prints_the_files_and_what_to_do_next(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-plugin", "command", "top-classes", "-o", str(tmp_path / "new")]) == 0
    printed = capfd.readouterr()
    files = [Path(line) for line in printed.out.splitlines()]
    assert all(file.is_file() for file in files)
    assert {file.relative_to(tmp_path / "new/cvx-top-classes").as_posix() for file in files} == set(
        Package("command", "top-classes").files()
    )
    assert cvx.install_command(tmp_path / "new/cvx-top-classes") in printed.err
    assert "cvx top-classes photo.jpg" in printed.err
