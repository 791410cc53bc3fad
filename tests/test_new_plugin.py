"""Packages written by `cvx new-plugin`: each is installed, found, passes its kit and is used."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cvx_embedded import photographs
from cvx_new_plugin.kinds import KINDS
from cvx_new_plugin.package import Package

if TYPE_CHECKING:
    from conftest import Environment

REPOSITORY = Path(__file__).resolve().parents[1]
NAMES = {
    "explainer": "pixel-contribution",
    "renderer": "value-table",
    "model": "lab",
    "task": "grade",
    "command": "top-classes",
    "engine": "in-turn",
}
CHECKS = {"explainer": 40, "renderer": 40, "model": 10, "task": 12, "command": 7, "engine": 9}
"""Least number of tests that the package of each kind passes."""

NET = """
from cvx_core import Preprocess, VisionModel
from cvx_core.testing.models import convolutional

def net():
    small = convolutional()
    return VisionModel(small.module, preprocess=Preprocess(crop=32), classes=small.classes)
"""

USE = {
    "explainer": "explain photo.jpg -m net.py:net -e {name}:frozen=true -r json -o out",
    "renderer": "explain photo.jpg -m net.py:net -e saliency -r {name}:digits=3 -o out",
    "model": "explain photo.jpg -m {name}:tiny -e saliency -r json -o out",
    "task": "explain photo.jpg -m cvx_{name}.sample:model -e saliency --label 3 -r json -o out",
    "command": "{name} photo.jpg -m net.py:net",
}
MORE = {"task": ["explainers/class-attention"], "engine": ["engines/local"]}
"""Plugins that the tests of a package use, beside those that it is used with here."""

FOUND = {"explainer": "*.json", "renderer": "saliency.predicted.csv", "model": "*.json"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_package_is_installed_found_tested_and_used(kind: str, environment: Environment) -> None:
    package = Package(kind, NAMES[kind])
    package.write(environment.folder)
    for plugin in ["explainers/gradient-error", "renderers/json", *MORE.get(kind, ())]:
        environment.unpack(environment.wheel(REPOSITORY / "plugins" / plugin))
    environment.make_virtual()
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    installed = environment.python("-m", "pip", "install", *options, f"./{package.distribution}")
    assert installed.returncode == 0, installed.stderr

    listed = environment.python("-m", "cvx_core.cli", "plugins")
    line = next(row for row in listed.stdout.splitlines() if package.name in row.split())
    assert line.startswith(package.details.thing)
    assert f"{package.distribution} 0.1.0" in line
    assert package.details.summary in line
    assert "failed" not in listed.stdout, listed.stdout

    tests = [f"{package.distribution}/tests", "-q", "-p", "no:cacheprovider"]
    checked = environment.python("-m", "pytest", *tests)
    assert checked.returncode == 0, checked.stdout
    [passed] = re.findall(r"(\d+) passed", checked.stdout)
    assert int(passed) >= CHECKS[kind]

    if kind in USE:
        (environment.folder / "net.py").write_text(NET)
        shutil.copyfile(photographs()[1].path, environment.folder / "photo.jpg")
        arguments = USE[kind].format(name=package.name).split()
        done = environment.python("-m", "cvx_core.cli", *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        assert not FOUND.get(kind) or list((environment.folder / "out").rglob(FOUND[kind]))
