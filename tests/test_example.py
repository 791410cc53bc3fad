"""The example distribution: built, installed elsewhere, tested, and used as its README shows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cvx_embedded import photographs
from test_docs import blocks, commands

if TYPE_CHECKING:
    from conftest import Environment

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLE = REPOSITORY / "docs/examples/cvx-example"
PLUGINS = (
    "commands/diagnose",
    "commands/why",
    "datasets/annotations",
    "engines/local",
    "explainers/activation-error",
    "explainers/class-attention",
    "explainers/gradient-error",
    "explainers/location-attention",
    "models/embedded",
    "renderers/figure",
    "renderers/html",
    "renderers/json",
)
"""Plugins that it is used with; without cvx-score its check is the only one."""

COMPONENTS = {
    "explainer": {"norm-grad", "smooth-relu"},
    "renderer": {"markdown"},
    "model source": {"colors"},
    "task": {"count"},
    "command": {"runner-up"},
    "engine": {"random-order"},
    "check": {"stability"},
}


@pytest.fixture
def installed(bare_environment: Environment) -> Environment:
    """The core, some plugins and the example, from wheels, and the images of the README."""
    for folder in (REPOSITORY, *(REPOSITORY / "plugins" / one for one in PLUGINS)):
        bare_environment.unpack(bare_environment.wheel(folder))
    bare_environment.make_virtual()
    wheel = str(bare_environment.wheel(EXAMPLE))
    options = ["--no-index", "--no-deps", "--no-cache-dir"]
    done = bare_environment.python("-m", "pip", "install", *options, wheel)
    assert done.returncode == 0, done.stderr
    fish, tool = (one.path for one in photographs())
    shutil.copyfile(tool, bare_environment.folder / "photo.jpg")
    for label, image in (("red", fish), ("green", tool)):
        (bare_environment.folder / "photos" / label).mkdir(parents=True)
        shutil.copy(image, bare_environment.folder / "photos" / label)
    return bare_environment


@pytest.mark.slow
def test_every_command_of_the_readme_runs_and_prints_what_it_says(installed: Environment) -> None:
    listed = installed.python("-m", "cvx_core.cli", "plugins")
    lines = re.findall(r"^(\w+(?: \w+)?) {2,}([\w-]+) .*cvx-example 0.1.0", listed.stdout, re.M)
    assert set(lines) == {(kind, name) for kind, names in COMPONENTS.items() for name in names}

    [shown] = [block for block in blocks(EXAMPLE / "README.md") if "run" in block.words]
    for arguments in commands(shown):
        done = installed.python("-m", "cvx_core.cli", *arguments)
        assert done.returncode == 0, done.stderr
    [printed] = [block for block in blocks(EXAMPLE / "README.md") if block.language == "text"]
    assert done.stdout == printed.text

    def explained(folder: str) -> dict[str, object]:
        data = json.loads((installed.folder / folder / "explanations.json").read_text())
        [one] = data["explanations"]
        return dict(one)

    table = (installed.folder / "table/explanations.md").read_text()
    assert "| photo.jpg | norm-grad | why power drill? | 10.99 |" in table
    assert explained("smooth")["method"] == "smooth-relu"
    assert "image with noise" in str(explained("checked")["evidence"])
    assert "why count" in str(explained("counted")["target"])
    assert (installed.folder / "diagnosis/index.html").is_file()


@pytest.mark.slow
def test_its_own_tests_pass_where_it_is_installed(installed: Environment) -> None:
    shutil.copytree(EXAMPLE / "tests", installed.folder / "tests")
    done = installed.python("-m", "pytest", "tests", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    for kind, names in COMPONENTS.items():
        for name in names:
            assert re.search(rf"^{kind} {name}: \d+ passed", done.stdout, re.M), done.stdout


@pytest.mark.slow
def test_its_components_are_tested_by_name(installed: Environment) -> None:
    named = ["explainer:norm-grad", "markdown", "colors", "runner-up", "stability"]
    options = [word for name in named for word in ("--cvx-component", name)]
    run = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "cvx_core.testing"]
    done = installed.python(*run, *options)
    assert done.returncode == 0, done.stdout
    assert len(re.findall(r"^[\w -]+: \d+ passed", done.stdout, re.M)) == len(named)
    refused = installed.python(*run, "--cvx-component", "count")
    assert refused.returncode != 0
    assert "The task 'count' can't be tested by its name alone" in refused.stdout
    assert "selection.py" not in refused.stdout, "a message, and no traceback"
