"""Sources of the documentation site: every page is in the navigation, and its links are adapted."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import cvx_core

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGURATION = yaml.safe_load((REPOSITORY / ".ci/mkdocs.yml").read_text())


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_sources", REPOSITORY / ".ci/site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages(navigation: Any) -> list[str]:
    if isinstance(navigation, str):
        return [navigation]
    several = navigation.values() if isinstance(navigation, dict) else navigation
    return [page for one in several for page in pages(one)]


def test_every_page_is_in_the_navigation_once(site: ModuleType) -> None:
    listed = pages(site.navigation(CONFIGURATION["nav"]))
    sources = [*REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("plugins/*/*/README.md")]
    api = [f"reference/api/{package}.md" for package in site.API]
    assert sorted(listed) == sorted([*map(site.site_path, sources), *api])


def test_links_lead_to_pages_of_the_site(site: ModuleType, tmp_path: Path) -> None:
    site.SITE = tmp_path
    text = site.adapted(REPOSITORY / "docs/how-to/ask-about-errors.md")
    assert "](../plugins/commands/why.md#what-a-report-says)" in text
    assert "README.md" not in text
    text = site.adapted(REPOSITORY / "plugins/commands/score/README.md")
    assert "](../../explanation/faithfulness.md)" in text


def test_marks_of_tested_blocks_are_dropped(site: ModuleType) -> None:
    text = site.adapted(REPOSITORY / "docs/tutorial.md")
    assert not re.search(r"^`{3,}console run", text, re.M)
    text = site.adapted(REPOSITORY / "docs/how-to/write-a-plugin.md")
    assert '```toml title="cvx-pixel-contribution/pyproject.toml"' in text


def test_the_api_reference_has_every_exported_name(site: ModuleType) -> None:
    page = site.api_page("cvx_core", "Everyday names")
    names = re.findall(r"^::: cvx_core\.(\w+)$", page, re.M)
    assert sorted(names) == sorted(cvx_core.__all__)
    assert "::: cvx_why.why" in page
