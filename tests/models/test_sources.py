"""Model sources: what is asked by name, and a source that misbehaves."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cvx_core import ModelEntry, ModelSource, VisionModel, list_models, load_model, register
from cvx_core.errors import CvxWarning, ModelError, PluginError, UnknownComponentError
from cvx_core.models.sources import first_synonyms, seeded
from cvx_core.plugins import discovery
from cvx_core.plugins.component import Component
from cvx_core.plugins.component_registry import Registry


@pytest.fixture(autouse=True)
def _a_registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_registry", Registry(strict=False))


def add(name: str, source: type[Any]) -> None:
    register(Component(name, "for a test", source), kind="model source")


class Small(ModelSource):
    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        with seeded():
            return VisionModel(nn.Conv2d(3, 2, 1), name=name, details={"weights": str(weights)})

    def models(self) -> Iterable[ModelEntry]:
        return (ModelEntry("zebra"), ModelEntry("ant"))


class Broken(ModelSource):
    def load(
        self, name: str, *, weights: str | Path | None = None, trust_checkpoint: bool = False
    ) -> VisionModel:
        raise KeyError("inside the plugin")

    def models(self) -> Iterable[ModelEntry]:
        raise KeyError("inside the plugin")


def test_what_follows_the_colon_reaches_the_source() -> None:
    add("small", Small)
    model = load_model("small:a:b", weights="best", dtype=torch.float64)
    assert (model.name, model.details["weights"], model.dtype) == ("a:b", "best", torch.float64)
    assert load_model("small").name == "Conv2d"  # no name at all


def test_models_are_listed_by_name() -> None:
    add("small", Small)
    assert [entry.name for entry in list_models("small")] == ["ant", "zebra"]


def test_a_model_without_its_source_is_told_where_it_is() -> None:
    add("small", Small)
    add("broken", Broken)
    with pytest.raises(ModelError, match="Unknown model: 'zebra'") as caught:
        load_model("zebra")
    assert caught.value.hint == "Write 'small:zebra'."


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("smal", "Did you mean 'small'?"),
        ("xyz", "a source of small"),
        ("mine.py", "'mine.py:NAME'"),
        ("best.pth", "--weights best.pth"),
    ],
)
def test_a_name_that_is_no_model_leads_to_one(name: str, hint: str) -> None:
    add("small", Small)
    with pytest.raises(ModelError) as caught:
        load_model(name)
    assert hint in caught.value.hint


def test_an_unknown_source_suggests_a_near_one() -> None:
    add("small", Small)
    with pytest.raises(UnknownComponentError, match=r"Did you mean 'small'\?"):
        load_model("smal:zebra")


def test_a_source_that_raises_is_reported_as_a_broken_plugin() -> None:
    add("broken", Broken)
    for call in (lambda: load_model("broken:x"), lambda: list_models("broken")):
        with pytest.raises(PluginError, match="'broken' failed: KeyError") as caught:
            call()
        assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("error", [SystemExit(0), BaseException("odd")])
def test_a_source_that_ends_the_program_is_reported_as_a_broken_plugin(
    error: BaseException,
) -> None:
    class Ends(Small):
        def load(self, name: str, **_: Any) -> Any:
            raise error

        def models(self) -> Iterable[ModelEntry]:
            raise error

    add("ends", Ends)
    for call in (lambda: load_model("ends:x"), lambda: list_models("ends")):
        with pytest.raises(PluginError, match="'ends' failed"):
            call()


def test_a_source_that_is_none_or_returns_no_model_is_reported() -> None:
    class Wrong(Small):
        def load(self, name: str, **_: Any) -> Any:
            return nn.Conv2d(3, 2, 1)

    add("wrong", Wrong)
    add("number", int)
    with pytest.raises(PluginError, match="returned a Conv2d"):
        load_model("wrong:x")
    with pytest.raises(PluginError, match=r"is a int, not a cvx_core\.ModelSource"):
        load_model("number:x")


def test_seeded_weights_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with seeded():
        one = torch.rand(3)
    with seeded():
        two = torch.rand(3)
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), state)


def test_synonyms_are_dropped_where_the_first_tells_classes_apart() -> None:
    names = ["tench, Tinca tinca", "crane, a bird", "crane, a machine", "plain", ", odd"]
    assert first_synonyms(names) == ["tench", "crane, a bird", "crane, a machine", "plain", ", odd"]


class Noting(ModelSource):
    def load(self, name: str, **options: Any) -> VisionModel:
        warnings.warn("half of the weights were taken", CvxWarning, stacklevel=1)
        return VisionModel(nn.Linear(2, 2))

    def models(self) -> Iterable[ModelEntry]:
        return []


def test_a_warning_about_weights_is_given_and_stands_in_the_details() -> None:
    add("noting", Noting)
    with pytest.warns(CvxWarning, match="half of the weights"):
        model = load_model("noting:")
    assert model.details["weights_note"] == "half of the weights were taken"
