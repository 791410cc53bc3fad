"""``cvx doctor``: what does not work is a problem with a hint, and the exit code says so."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from cvx_embedded.source import EmbeddedSource
from cvx_gradient_error.explainer import GradientError
from cvx_json.renderer import Json

from cvx_core import Component, errors, install_command, register
from cvx_core.cli.installation import findings

if TYPE_CHECKING:
    from conftest import Outcome


def report(outcome: Outcome) -> dict[str, dict[str, Any]]:
    document = json.loads(outcome.out)
    assert document["schema"] == "cvx.doctor/1"
    return {one["name"]: one for one in document["findings"]}


def install(kind: str, thing: Any) -> None:
    register(Component(f"a-{thing.__name__.lower()}", "works", thing), kind=kind)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of installed packages, and an active environment of uv: no pip, no clone."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "cvx_core/errors.py"))
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    return tmp_path


def test_packages_are_installed_with_what_the_environment_has(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ("cvx-core[standard]", "old>=2.10", "tqdm", site / "mine")
    arguments = f"pip install 'cvx-core[standard]' 'old>=2.10' tqdm -e {site}/mine"
    assert install_command(*wanted) == f"uv {arguments}"
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    monkeypatch.chdir(site)
    assert install_command(*wanted) == f"uv {arguments} --python {sys.executable}"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert install_command(*wanted) == arguments


def test_packages_of_a_clone_are_installed_from_it(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "plugins/engines/local/src/cvx_engine").mkdir(parents=True)
    wanted = ("cvx-core[all]", "cvx-engine", "cvx-of-others")
    command = f"uv pip install -e '{site}[all]' -e {site}/plugins/engines/local cvx-of-others"
    assert install_command(*wanted) == command
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert install_command(*wanted) == f"pip install uv && {command}"
    assert install_command("tqdm") == "pip install tqdm"


def test_without_plugins_it_says_what_to_install(inside: Callable[..., Outcome]) -> None:
    outcome = inside("doctor", "--json")
    assert outcome.code == 6
    found = report(outcome)
    for kind in ("explainer", "renderer", "model source"):
        assert found[kind]["problem"]
        assert found[kind]["hint"] == install_command("cvx-core[standard]")
    assert not found["task"]["problem"]


def test_an_installation_that_works_has_no_problems(inside: Callable[..., Outcome]) -> None:
    install("explainer", GradientError)
    install("renderer", Json)
    install("model source", EmbeddedSource)
    outcome = inside("doctor")
    assert outcome.code == 0, outcome.out
    assert outcome.out.splitlines()[-1] == "No problems found."
    rows = {tuple(line.split()[:2]): line for line in outcome.out.splitlines()}
    assert torch.__version__.partition("+")[0] in rows["versions", "torch"]
    assert ("devices", "cpu") in rows


def test_a_component_that_cannot_be_imported_is_a_problem(inside: Callable[..., Outcome]) -> None:
    register(Component("gone", "moved away", "cvx_no_such_package:Thing"), kind="renderer")
    outcome = inside("doctor", "--json")
    assert outcome.code == 6
    found = report(outcome)["renderer gone"]
    assert found["problem"]
    assert "cvx_no_such_package" in found["value"]
    assert "cvx plugins --verbose" in found["hint"]


@pytest.fixture
def distributions(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Versions and requirements of distributions that are made up."""
    versions: dict[str, str] = {}
    required: dict[str, list[str]] = {}

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(findings, "version", version)
    monkeypatch.setattr(findings, "requires", lambda name: required.get(name))
    return versions, required


def test_requirements_that_are_missing_or_too_old_are_problems(
    distributions: tuple[dict[str, str], dict[str, list[str]]],
) -> None:
    versions, required = distributions
    versions.update({"mine": "1.0", "old": "2.8.1", "fine": "3.0"})
    required["mine"] = [
        "old>=2.10",
        "fine>=2",
        "absent[all]>=1",
        "elsewhere>=1; sys_platform == 'plan9'",
        "optional>=1; extra == 'more'",
    ]
    found = {one.name: one for one in findings.version_findings(["mine"])}
    assert not {"elsewhere", "optional"} & set(found)
    assert (found["fine"].value, found["fine"].problem) == ("3.0", False)
    assert found["old"].value == "2.8.1; mine requires old>=2.10"
    assert found["old"].hint == install_command("old>=2.10")
    assert found["absent"].problem
    assert found["absent"].hint == install_command("absent[all]>=1")


def test_extras_say_what_they_lack(
    distributions: tuple[dict[str, str], dict[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions, required = distributions

    class Metadata:
        def get_all(self, name: str) -> list[str]:
            return ["few", "many"]

    monkeypatch.setattr(findings, "metadata", lambda name: Metadata())
    required["cvx-core"] = [
        "torch",
        "cvx-a; extra == 'few'",
        "cvx-core[few]; extra == 'many'",
        "cvx-b[library]; extra == 'many'",
    ]
    required["cvx-b"] = ["torch", "library; extra == 'library'"]
    versions.update({"cvx-a": "1", "cvx-b": "1"})
    few, many = findings.extra_findings()
    assert (few.value, few.hint) == ("installed", "")
    assert many.value == "1 of 3 packages missing: library"
    assert many.hint == install_command("cvx-core[many]")
    assert not many.problem


def test_a_device_that_fails_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("driver too old")

    monkeypatch.setattr(torch, "ones", broken)
    cpu = next(findings.device_findings())
    assert cpu.problem
    assert "driver too old" in cpu.value
    assert "--device cpu" in cpu.hint
