"""Every distribution is complete, builds a wheel offline, and works outside this repository."""

from __future__ import annotations

import re
import tomllib
import zipfile
from functools import cache
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement

import cvx_core

if TYPE_CHECKING:
    from conftest import Environment

REPOSITORY = Path(__file__).resolve().parents[1]
PLUGINS = sorted(p.parent for p in (REPOSITORY / "plugins").glob("*/*/pyproject.toml"))
EXTRA_ONLY = {"cvx-transformers"}
"""What `standard` leaves out because of its size."""

OWN_EXTRA = {"cvx-ray": "ray", "cvx-ultralytics": "ultralytics"}
"""What `all` leaves out too, with its extra: for clusters, or with a license of its own."""


@cache
def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


SHARED = {"cvx-activation-error", "cvx-annotations", "cvx-engine"}
"""What several plugins build on, beside the core."""


def name_of(plugin: Path) -> str:
    """The engine of one machine comes with the base classes of all engines."""
    return {"local": "engine"}.get(plugin.name, plugin.name)


def package(plugin: Path) -> str:
    return "cvx_" + name_of(plugin).replace("-", "_")


ROOT = project(REPOSITORY)
relative = lambda path: str(path.relative_to(REPOSITORY))  # noqa: E731


def test_every_folder_of_plugins_is_a_distribution() -> None:
    folders = {p for p in (REPOSITORY / "plugins").glob("*/*") if p.is_dir()}
    assert folders == set(PLUGINS)


@pytest.mark.parametrize("plugin", PLUGINS, ids=relative)
def test_a_plugin_folder_is_complete(plugin: Path) -> None:
    source = plugin / "src" / package(plugin)
    for path in ("__init__.py", "plugin.py", "py.typed"):
        assert (source / path).is_file(), path
    assert [p.name for p in (plugin / "src").iterdir() if p.name != "__pycache__"] == [source.name]
    readme = (plugin / "README.md").read_text()
    assert readme.startswith(f"# cvx-{name_of(plugin)}")
    assert len(readme.split()) > 40, "a README says what it is, how to use it and what it takes"
    assert list((plugin / "tests").glob("test_*.py"))


@pytest.mark.parametrize("plugin", PLUGINS, ids=relative)
def test_a_plugin_declares_itself_as_all_do(plugin: Path) -> None:
    declared = project(plugin)["project"]
    assert declared["name"] == f"cvx-{name_of(plugin)}"
    assert declared["entry-points"]["cvx.plugins.v1"] == {
        name_of(plugin): f"{package(plugin)}.plugin"
    }
    assert "cvx-core>=0.1,<1" in declared["dependencies"]
    assert declared["license"] == "Apache-2.0"
    assert declared["requires-python"] == ROOT["project"]["requires-python"]
    assert declared["readme"] == "README.md"
    assert declared["description"]
    others = {re.split("[<>=]", d)[0] for d in declared["dependencies"] if d.startswith("cvx-")}
    assert others <= {"cvx-core", *SHARED}, "plugins depend on no plugin that isn't shared"


def test_the_workspace_and_the_extras_list_every_plugin() -> None:
    names = {f"cvx-{name_of(plugin)}" for plugin in PLUGINS}
    sources = ROOT["tool"]["uv"]["sources"]
    assert set(sources) == names | {"cvx-core"}
    assert all(source == {"workspace": True} for source in sources.values())
    extras = ROOT["project"]["optional-dependencies"]
    standard = set(extras["standard"])
    assert standard == names - EXTRA_ONLY - set(OWN_EXTRA)
    assert set(extras["all"]) == {"cvx-core[standard]", *EXTRA_ONLY}
    assert all(name in extras[extra] for name, extra in OWN_EXTRA.items())


def test_what_the_demo_installs_holds_no_tools_for_tests_and_documents() -> None:
    groups = ROOT["dependency-groups"]
    assert ROOT["tool"]["uv"]["default-groups"] == ["standard"]
    names = {re.split(r"[\[>=<]", word)[0] for word in groups["standard"]}
    assert names == {"cvx-core", "pytest"}


@pytest.mark.parametrize("folder", [REPOSITORY, *PLUGINS], ids=lambda p: p.name)
def test_a_wheel_is_built_offline_and_holds_what_it_must(
    bare_environment: Environment, folder: Path
) -> None:
    name = "cvx_core" if folder == REPOSITORY else package(folder)
    source = REPOSITORY if folder == REPOSITORY else folder / "src"
    wheel = bare_environment.wheel(folder)
    site = bare_environment.unpack(wheel)
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(p.relative_to(source))
        for p in (source / name).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    [info] = {p.partition("/")[0] for p in inside if ".dist-info/" in p}
    assert {p for p in inside if not p.startswith(info)} == expected
    assert f"{name}/py.typed" in inside
    assert f"{info}/licenses/LICENSE" in inside
    assert not [p for p in inside if re.match(r"\w+/tests/|.*\.(pyc|npz|pth)$", p)]
    metadata = PathDistribution(site / info).metadata
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload(), "the README is the page of the distribution"


def test_wheels_work_together_outside_this_repository(
    bare_environment: Environment,
) -> None:
    folders = [REPOSITORY, *(p for p in PLUGINS if p.name in ("class-attention", "json"))]
    programs = bare_environment.make_virtual()
    wheels = [str(bare_environment.wheel(folder)) for folder in folders]
    installed = bare_environment.python(
        "-m", "pip", "install", "--no-index", "--no-deps", "--no-cache-dir", *wheels
    )
    assert installed.returncode == 0, installed.stderr
    found = bare_environment.ask(
        """
import json, pathlib, cvx_core as cvx
from cvx_core.plugins.discovery import registry
from cvx_core.testing import models
model = models.convolutional()
explanations = cvx.explain(model, models.inputs(2), "class-attention")
artifact = cvx.get_renderer("json").render(explanations)
artifact.write("map")
data = json.loads(pathlib.Path("map.json").read_text())
print(json.dumps({
    "where": cvx.__file__,
    "offers": [o.owner for o in registry().offers("explainer")],
    "renderers": [o.owner for o in registry().offers("renderer")],
    "methods": [e["method"] for e in data["explanations"]],
    "failures": [f.reason for f in registry().failures],
}))
"""
    )
    assert Path(found["where"]).is_relative_to(programs.parent)
    assert set(found["offers"]) == {"cvx-class-attention:class-attention"}
    assert set(found["renderers"]) == {"cvx-json:json"}
    assert found["methods"] == ["class-attention"] * 2
    assert found["failures"] == []
    said = bare_environment.python(str(programs / "cvx"), "--version")
    assert said.returncode == 0, said.stderr
    assert ROOT["project"]["version"] in said.stdout


def test_all_distributions_have_one_version_that_they_accept() -> None:
    versions = {folder: project(folder)["project"]["version"] for folder in (REPOSITORY, *PLUGINS)}
    assert set(versions.values()) == {cvx_core.__version__}
    for plugin in PLUGINS:
        for text in project(plugin)["project"]["dependencies"]:
            requirement = Requirement(text)
            if requirement.name.startswith("cvx-"):
                assert requirement.specifier.contains(cvx_core.__version__), f"{plugin}: {text}"


def test_the_command_is_installed_with_the_core() -> None:
    assert ROOT["project"]["scripts"] == {"cvx": "cvx_core.cli.__main__:main"}


def test_the_core_depends_on_seven_packages() -> None:
    names = {re.split(r"[>=<]", d)[0] for d in ROOT["project"]["dependencies"]}
    assert names == {"torch", "numpy", "pluggy", "pillow", "click", "lazy-loader", "packaging"}
    assert ROOT["project"]["license"] == "Apache-2.0"
    assert (REPOSITORY / "LICENSE").read_text().lstrip().startswith("Apache License")
