"""``cvx models``: a source that fails costs itself alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cvx_core import Component, ModelEntry, ModelSource, VisionModel, register

if TYPE_CHECKING:
    from conftest import Outcome


class Good(ModelSource):
    def load(self, name: str, **_: object) -> VisionModel:  # type: ignore[override]
        raise NotImplementedError

    def models(self) -> Iterable[ModelEntry]:
        return (ModelEntry("ant"),)


class Bad(Good):
    def models(self) -> Iterable[ModelEntry]:
        raise KeyError("inside the plugin")


def test_a_source_that_fails_is_an_error_only_where_nothing_else_is_listed(
    inside: Callable[..., Outcome],
) -> None:
    register(Component("bad", "fails", Bad), kind="model source")
    alone = inside("models")
    assert (alone.code, alone.out) == (6, "")
    register(Component("good", "has a model", Good), kind="model source")
    both = inside("models", "--json")
    assert both.code == 0
    assert [one["name"] for one in json.loads(both.out)["models"]] == ["good:ant"]
    assert "inside the plugin" in both.err
    assert inside("models", "bad").code == 6
    assert inside("models", "good").code == 0
