"""The reference says what the code has: plugins, parameters, options, names, keys, errors."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tomllib
from pathlib import Path

import click
import pytest
from cvx_embedded import photographs

import cvx_core
from cvx_core import cli, errors
from cvx_core.cli.program import COMMANDS, group
from cvx_core.plugins import discovery
from cvx_core.plugins.hookspecs import GROUP
from cvx_core.plugins.parameters import parse_parameters
from cvx_core.tasks.catalogue import parse_target

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE = REPOSITORY / "docs/reference"
PLUGINS = sorted((REPOSITORY / "plugins").glob("*/*/README.md"))


def package_of(page: Path) -> str:
    """Return the distribution of a plugin's README."""
    project = tomllib.loads((page.parent / "pyproject.toml").read_text())
    return str(project["project"]["name"])


def rows(text: str) -> str:
    """Return the first cells of all tables."""
    return "\n".join(re.findall(r"^\| (.*?) \|", text, re.M))


def test_the_table_of_plugins_is_what_is_installed() -> None:
    lines = re.findall(
        r"^\| ([\w ]+) \| (`[^|]+`) \| \[([\w-]+)\]\((\S+)\)",
        (REFERENCE / "components.md").read_text(),
        re.M,
    )
    result = {
        (kind, component, package)
        for kind, components, package, _ in lines
        for component in re.findall(r"`([\w-]+)`", components)
    }
    ours = {
        package_of(page): f"../../plugins/{page.parents[1].name}/{page.parent.name}/README.md"
        for page in PLUGINS
    }
    found = {
        (offer.kind, offer.component.name, offer.distribution)
        for kind in discovery.registry().kinds
        for offer in discovery.registry().offers(kind)
        if offer.distribution in ours
    }
    assert result == found
    assert all(link == ours[package] for _, _, package, link in lines)


@pytest.mark.parametrize("kind", ["explainer", "renderer"])
def test_the_readme_of_a_plugin_has_its_parameters_with_their_defaults(kind: str) -> None:
    for offer in discovery.registry().offers(kind):
        pages = [p for p in PLUGINS if package_of(p) == offer.distribution]
        for page in pages:
            about = section(page.read_text(), offer.component.name)
            _, _, table = about.partition("| parameter | default |")
            lines = re.findall(r"^\| `(\w+)` \| `?([^`|]*?)`? \|", table, re.M)
            result = {key: parse_parameters(f"x:{key}={value}")[1][key] for key, value in lines}
            cls = offer.component.load()
            fields = {f.name: f.default for f in dataclasses.fields(cls)}
            assert result == fields, f"{page}: {offer.component.name}"


def section(text: str, component: str) -> str:
    """Return the sections whose headings name a component, or what comes before all of these."""
    first, *others = re.split(r"^(?=#+ [^\n]*`)", text, flags=re.M)
    named = [part for part in others if f"`{component}`" in part.partition("\n")[0]]
    return "\n".join(named) or first


def test_the_reference_of_commands_has_every_option() -> None:
    text = (REFERENCE / "command-line.md").read_text()
    form = r"^## cvx ([\w-]+)\b(?! export)[^\n]*\n(.*?)(?=^## |\Z)"
    sections = dict(re.findall(form, text, re.S | re.M))
    verbs = {*COMMANDS, *(o.component.name for o in discovery.registry().offers("command"))}
    assert set(sections) >= verbs
    for verb in sections:
        command = group.get_command(click.Context(group), verb)
        assert command is not None
        real = {o for p in command.params if isinstance(p, click.Option) for o in p.opts}
        result = set(re.findall(r"(?<![\w-])(--?[a-z][\w-]*)", rows(sections[verb])))
        assert result == real, verb


def test_the_reference_of_python_has_every_public_name() -> None:
    words = set(re.findall(r"\w+", (REFERENCE / "python.md").read_text()))
    assert set(cvx_core.__all__) <= words


def test_the_reference_of_errors_has_every_error_with_its_exit_code() -> None:
    text = (REFERENCE / "errors.md").read_text()
    result = {key: int(code) for key, code in re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.M)}
    tree = {
        key: value.exit_code
        for key, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.CvxError)
    }
    assert result == tree


def test_the_reference_of_targets_has_every_target() -> None:
    text = (REFERENCE / "targets.md").read_text()
    result = re.findall(r"^\| (?:`\"?([\w, ]+)\"?`|a class[^|]*) \| `(\w+)\(", text, re.M)
    found = {type(parse_target(words or "tabby")).__name__ for words, _ in result}
    assert found == {python for _, python in result}
    targets = (getattr(cvx_core, key) for key in cvx_core.__all__)
    classes = {c for c in targets if isinstance(c, type) and issubclass(c, cvx_core.Target)}
    assert found == {c.__name__ for c in classes} - {"Target"}


def test_the_reference_of_plugins_has_every_hook_and_kind() -> None:
    text = (REFERENCE / "plugins.md").read_text()
    result = re.findall(r"^\| `(cvx_\w+)` \| ([\w ]+) \|", text, re.M)
    kinds = discovery.registry().kinds.values()
    assert {kind: hook for hook, kind in result} == {kind.name: kind.hook for kind in kinds}
    assert f"`{GROUP}`" in text


def test_the_references_have_every_key_that_a_run_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(photographs()[1].path, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    arguments = ["explain", "photo.jpg", "missing.jpg", "--label", "screwdriver"]
    explainers = ["class-attention", "location-attention", "gradient-error", "activation-error"]
    chosen = [word for one in explainers for word in ("-e", one)]
    path = ["-e", "gradient-error:output=path,steps=2"]
    assert cli.main([*arguments, *chosen, *path, "-r", "json", "-o", "out", "-q"]) == 4
    capfd.readouterr()
    written = json.loads((tmp_path / "out/run.json").read_text())
    page = (REFERENCE / "output-files.md").read_text()
    result = set(re.findall(r"`(\w+)`", page))
    good, bad = written["images"]
    keys = {*written, *written["model"], *good, *good["prediction"], *good["explanations"][0]}
    assert keys | set(bad["failures"][0]) | {good["status"], bad["status"]} <= result
    page = (REFERENCE / "evidence-and-provenance.md").read_text()
    result = set(re.findall(r"`(\w+)`", rows(page)))
    saved = json.loads((tmp_path / "out/explanations.json").read_text())["explanations"]
    assert len(saved) == 5
    for one in saved:
        assert {*one["evidence"], *one["provenance"]} <= result, one["method"]
