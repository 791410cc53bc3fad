"""Sources of the documentation site, written to build/site for the site generator.

The pages in the repository stay readable there: this script turns their links into links of the
site, drops the marks of tested blocks, and adds the pages of the plugins and an API reference of
all public names.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from cvx_core.plugins.discovery import registry

REPOSITORY = Path(__file__).resolve().parents[1]
SITE = REPOSITORY / "build/site"
API = {
    "cvx_core": "Everyday names",
    "cvx_core.explainers": "Explainers",
    "cvx_core.recording": "Recordings of a forward pass",
    "cvx_core.models": "Models",
    "cvx_core.tasks": "Tasks",
    "cvx_core.explanations": "Explanations and renderers",
    "cvx_core.images": "Images",
    "cvx_core.plugins": "Plugins",
    "cvx_core.cli.kit": "Command line",
    "cvx_core.testing.conformance": "Conformance kits",
}
"""Public packages, with the titles of their pages."""

FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1[ ]*$", re.S | re.M)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def main() -> None:
    """Write the configuration, and all pages and pictures."""
    shutil.rmtree(SITE, ignore_errors=True)
    config = yaml.safe_load((REPOSITORY / ".ci/mkdocs.yml").read_text())
    for page in sorted(
        [*REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("plugins/*/*/README.md")]
    ):
        write(site_path(page), adapted(page))
    for picture in REPOSITORY.glob("docs/images/*"):
        write(site_path(picture), picture.read_bytes())
    for package, title in API.items():
        write(f"reference/api/{package}.md", api_page(package, title))
    config["nav"] = navigation(config["nav"])
    (SITE / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False))


def write(path: str, content: str | bytes) -> None:
    """Write a file of the site."""
    file = SITE / "docs" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def site_path(path: Path) -> str:
    """Return where a file of the repository is on the site; empty if it is not on it."""
    relative = path.relative_to(REPOSITORY).as_posix()
    if relative == "README.md":
        return "index.md"
    if relative.startswith("docs/"):
        return relative.removeprefix("docs/")
    if re.fullmatch(r"plugins/[^/]+/[^/]+/README\.md", relative):
        return relative.replace("/README.md", ".md")
    return relative if relative.startswith("plugins/") and path.is_file() else ""


def adapted(page: Path) -> str:
    """Return a page with links of the site, and with plain fences around its blocks."""
    text, parts, end = page.read_text(), [], 0
    here = posixpath.dirname(site_path(page)) or "."

    def link(match: re.Match[str]) -> str:
        path, mark, anchor = match[1].partition("#")
        target = Path(os.path.normpath(page.parent / path))
        if not path or re.match(r"\w+:", path) or not site_path(target):
            return match[0]
        if target.suffix != ".md" or "src" in target.parts:
            write(site_path(target), target.read_bytes())
        return f"]({posixpath.relpath(site_path(target), here)}{mark}{anchor})"

    for block in FENCE.finditer(text):
        ticks, words, code = block.groups()
        language, *marks = words.split() or [""]
        files = [mark.removeprefix("file=") for mark in marks if mark.startswith("file=")]
        title = f' title="{files[0]}"' if files else ""
        parts += [LINK.sub(link, text[end : block.start()]), f"{ticks}{language}{title}\n"]
        parts += [code, ticks]
        end = block.end()
    return "".join([*parts, LINK.sub(link, text[end:])])


def api_page(package: str, title: str) -> str:
    """Return a page that documents all public names of a package from their docstrings."""
    names = sorted(import_module(package).__all__, key=str.lower)
    blocks = [f"::: {package}.{name}" for name in names]
    if package == "cvx_core":
        functions = [one.component.function for one in registry().offers("command")]
        blocks += [f"::: {name.replace(':', '.')}" for name in functions if name]
    return "\n\n".join([f"# {title}", f"Public names of `{package}`.", *blocks]) + "\n"


def navigation(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the navigation with the API reference, the decisions and the plugins."""
    plugins: dict[str, list[str]] = {}
    for page in sorted(REPOSITORY.glob("plugins/*/*/README.md")):
        plugins.setdefault(page.parents[1].name.capitalize(), []).append(site_path(page))
    sections = {name: list(pages) for section in given for name, pages in section.items()}
    api = [{title: f"reference/api/{package}.md"} for package, title in API.items()]
    sections["Reference"].append({"API": api})
    decisions = sorted(REPOSITORY.glob("docs/adr/0*.md"))
    pages = ["adr/README.md", *(site_path(page) for page in decisions)]
    project = sections.pop("Project")
    sections["Plugins"] = [{kind: found} for kind, found in plugins.items()]
    sections["Project"] = [*project, {"Decisions": pages}]
    return [{name: found} for name, found in sections.items()]


if __name__ == "__main__":
    main()
