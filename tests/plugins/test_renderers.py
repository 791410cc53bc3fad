"""Renderers by the suffix of their files."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cvx_core import Artifact, Explanation, OutputError, Renderer
from cvx_core.plugins import discovery, renderers
from cvx_core.plugins.component import Component
from cvx_core.plugins.component_registry import Registry


@dataclass(frozen=True)
class Words(Renderer):
    """Words, as .txt or .md."""

    suffix = ".txt"  # type: ignore[assignment]
    media_type = "text/plain"  # type: ignore[assignment]

    def draw(self, explanations: list[Explanation]) -> Artifact:
        return Artifact(self.suffix, self.media_type, b"words")


@dataclass(frozen=True)
class Broken(Words):
    """Can't be built."""

    def __post_init__(self) -> None:
        raise OutputError("broken")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Registry(strict=False)
    for name, kind in (("a", Broken), ("words", Words)):
        found.add("renderer", Component(name, "", kind))
    monkeypatch.setattr(discovery, "_registry", found)


def test_the_renderer_that_writes_files_with_a_suffix_is_found_past_a_broken_one() -> None:
    assert isinstance(renderers.renderer_for(".TXT"), Words)


def test_without_one_the_known_suffixes_are_named() -> None:
    with pytest.raises(OutputError, match=r"No installed renderer writes \.doc") as caught:
        renderers.renderer_for(".doc", [".npz"])
    assert "Suffixes: .npz, .txt." in caught.value.hint
