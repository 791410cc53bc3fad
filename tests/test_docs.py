"""The documentation is true: its Python runs, its commands parse, its links lead somewhere.

How a block is marked is said in docs/contributing.md, under "Tests".
"""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from cvx_embedded import photographs
from cvx_new_plugin.package import Package

import cvx_core
from cvx_core import cli
from cvx_core.api import get_explainer, get_renderer
from cvx_core.cli.program import group
from cvx_core.explainers.composition import is_composition
from cvx_core.plugins import discovery
from cvx_core.plugins.parameters import parse_parameters
from cvx_core.tasks.catalogue import parse_target

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
DOCS = sorted((REPOSITORY / "docs").rglob("*.md"))
PLUGINS = sorted((REPOSITORY / "plugins").glob("*/*/README.md"))
PAGES = [README, *DOCS, *PLUGINS]
EXAMPLES = sorted((REPOSITORY / "docs/examples").glob("*/README.md"))
"""Their commands run where the example is installed: tests/test_example.py."""
OPTIONAL = {"ultralytics"}
"""Plugins whose library is not among the test dependencies."""
SLOW = {"tutorial.md", "ask-about-errors.md"}
GUIDE = REPOSITORY / "docs/how-to/write-a-plugin.md"
AUTHORS = REPOSITORY / "docs/reference/plugin-authors.md"
ELSEWHERE = {"my-method", "pixel-contribution", "value-table"}
"""Components that the documentation makes up, or has the user write."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the words after it, and what it holds."""

    language: str
    words: tuple[str, ...]
    text: str

    @property
    def file(self) -> str:
        return next((w.removeprefix("file=") for w in self.words if w.startswith("file=")), "")


@cache
def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^(`{3,})(\S+)?([^\n]*)\n(.*?)^\1$", page.read_text(), re.S | re.M)
    return [Block(language, tuple(words.split()), text) for _, language, words, text in found]


def commands(block: Block) -> list[list[str]]:
    """Return the arguments of each `cvx ...` line."""
    lines = block.text.replace("\\\n", " ").splitlines()
    parts = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [words[words.index("cvx") + 1 :] for words in parts if "cvx" in words]


def shell_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("console", "bash")]


def name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def pages_that_run() -> list[Any]:
    return [
        pytest.param(page, marks=[pytest.mark.slow] if page.name in SLOW else [], id=name(page))
        for page in PAGES
        if any(b.language == "python" or "run" in b.words for b in blocks(page))
        and page not in (GUIDE, AUTHORS, README, *EXAMPLES)
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with four photographs, and a registry that a page may add to."""
    fish, tool = photographs()
    more = REPOSITORY / "plugins/models/embedded/tests/data/nanodet"
    shutil.copyfile(more / "horse.png", tmp_path / "horse.png")
    shutil.copyfile(more / "wormsCathedral.png", tmp_path / "cathedral.png")
    shutil.copyfile(fish.path, tmp_path / "fish.jpg")
    shutil.copyfile(tool.path, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(discovery, "_registry", None)
    return tmp_path


def run(code: str, names: dict[str, Any]) -> None:
    # Without this module's own `from __future__`, which exec would hand on.
    exec(compile(code, names["__name__"], "exec", dont_inherit=True), names)


def run_page(page: Path, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
    """Run a page from top to bottom as its reader would."""
    names: dict[str, Any] = {"__name__": "page"}
    if page.parents[1].name == "renderers":  # their pages begin where there is something to draw
        names["explanations"] = cvx_core.explain(cvx_core.load_model("embedded"), "photo.jpg")
        names["image"] = names["explanations"][0].image
    said = ""
    for block in blocks(page):
        if block.language == "python" and block.file:
            (folder / block.file).write_text(block.text)
        elif block.language == "python":
            run(block.text, names)
            said = capture.readouterr().out
        elif "run" in block.words:
            said = ""
            for arguments in commands(block):
                code = cli.main(arguments)
                printed = capture.readouterr()
                said += printed.err + printed.out
                assert code == 0, said
        elif (block.language, block.words) == ("text", ()) and said:
            result = said.splitlines()
            for line in block.text.splitlines():
                assert line in result, f"{line!r} is not in\n{said}"
            said = ""


@pytest.mark.parametrize("page", pages_that_run())
def test_what_a_page_shows_runs_and_prints_what_it_says(
    page: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if page.parent.name in OPTIONAL:
        pytest.importorskip(page.parent.name, reason=f"{page.parent.name} is not installed")
    run_page(page, folder, capfd)


def test_the_readme_explains_a_photograph_in_ten_lines(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    example, _ = (b.text for b in blocks(README) if b.language == "python")
    assert len([line for line in example.splitlines() if line]) <= 10
    names: dict[str, Any] = {"__name__": "readme"}
    run(example, names)
    assert capfd.readouterr().out.splitlines()[0] == "why power drill and not screwdriver?"
    assert (folder / "why.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("page", [p for p in PAGES if p not in EXAMPLES], ids=name)
def test_every_command_is_one_that_cvx_takes(page: Path) -> None:
    for block in shell_blocks(page):
        for arguments in commands(block):
            with group.make_context("cvx", list(arguments), resilient_parsing=True):
                pass
            verb = group.get_command(click.Context(group), arguments[0])
            assert verb is not None
            if arguments[1:] or arguments[0] in ("demo", "plugins", "models"):
                context = verb.make_context(arguments[0], list(arguments[1:]))
                check_names(context.params)


def check_names(parameters: dict[str, Any]) -> None:
    for kind, build in (("explainers", get_explainer), ("renderers", get_renderer)):
        for text in parameters.get(kind, ()):
            if is_composition(text):
                build(text)
                continue
            component, values = parse_parameters(text)
            if component not in ELSEWHERE:
                build(component, **values)
    for text in parameters.get("targets", ()):
        parse_target(text)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    text = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(), flags=re.S | re.M)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert REPOSITORY in target.parents, link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            waiting += [] if link.startswith("http") else [(page.parent / link).resolve()]
    assert set(PAGES) <= reached


def test_pictures_are_small_and_used() -> None:
    pictures = sorted((REPOSITORY / "docs/images").iterdir())
    text = "".join(page.read_text() for page in PAGES)
    for picture in pictures:
        assert picture.stat().st_size < 400_000, picture
        assert f"images/{picture.name})" in text, picture


def test_the_readme_has_the_two_commands_word_for_word() -> None:
    lines = [line for block in shell_blocks(README) for line in block.text.splitlines()]
    assert "pip install uv && uv run cvx demo" in lines
    assert "pip install uv && uv run pytest" in lines


def test_the_plain_pip_way_installs_what_the_first_command_does() -> None:
    install = REPOSITORY / "docs/how-to/install.md"
    [block] = [b for b in shell_blocks(install) if "python -m venv" in b.text]
    folders = set(re.findall(r"-e (\S+)", block.text))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    standard = project["project"]["optional-dependencies"]["standard"]
    paths = [p.parent for p in PLUGINS]
    named = {p: tomllib.loads((p / "pyproject.toml").read_text())["project"]["name"] for p in paths}
    assert folders == {".", *(name(p) for p in paths if named[p] in standard)}
    for constraint in project["tool"]["uv"]["constraint-dependencies"]:
        assert constraint in block.text, "the pair that is tested"


@pytest.mark.parametrize("page", [p for p in DOCS if re.match(r"\d{4}-", p.name)], ids=name)
def test_a_decision_has_its_parts(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {int(page.name[:4])}. ")
    parts = ["## Context", "## Decision", "## Consequences", "## Rejected"]
    assert [line for line in text.splitlines() if line.startswith("## ")] == parts
    assert len(text.split()) < 400, "half a page"


def test_the_files_of_the_guide_are_those_of_a_new_plugin() -> None:
    [made] = [
        words for block in shell_blocks(GUIDE) for words in commands(block) if len(words) == 3
    ]
    package = Package(*made[1:])
    files = package.files()
    shown = {block.file.partition("/")[2]: block.text for block in blocks(GUIDE) if block.file}
    assert shown == {path: files[path] for path in shown}
    tree, *_ = [block.text for block in blocks(GUIDE) if block.language == "text"]
    names = {path.rpartition("/")[2] for path in files}
    assert names <= {word.rpartition("/")[2] for word in tree.split()}


def test_the_examples_for_authors_are_those_of_the_example_distribution() -> None:
    source = REPOSITORY / "docs/examples/cvx-example/src/cvx_example"
    shown = [block for block in blocks(AUTHORS) if block.language == "python"]
    kinds = ["norm_grad", "markdown", "colors", "runner_up", "stability", "smooth_relu"]
    assert [block.file for block in shown] == [f"{kind}.py" for kind in kinds]
    assert all(block.text in (source / block.file).read_text() for block in shown)
