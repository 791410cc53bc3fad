"""The conformance kit: a good component passes every check, and each bad one is caught by its own.

The bad ones are what a careless author writes; without them a check could check nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from cvx_core import PluginError, api
from cvx_core.explainers.base import Explainer
from cvx_core.explainers.method import Attribution
from cvx_core.explainers.request import ExplainRequest
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.renderer import Renderer
from cvx_core.explanations.results import Artifact
from cvx_core.plugins import discovery
from cvx_core.plugins.component_registry import Registry
from cvx_core.recording import Requirements
from cvx_core.testing import models
from cvx_core.testing.conformance import ExplainerConformance, RendererConformance


@dataclass(frozen=True)
class InputTimesGradient(Explainer):
    """A good one."""

    def requirements(self) -> Requirements:
        return Requirements("input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        recording = request.recording(self.requirements())
        pixels = recording.activation("input")
        return [
            Attribution(self.change(request, (pixels * recording.gradient(seed, "input")).sum(1)))
            for seed in request.seeds(recording.logits)
        ]

    def change(self, request: ExplainRequest, values: torch.Tensor) -> torch.Tensor:
        return values


@dataclass(frozen=True)
class Text(Renderer):
    """A good one."""

    suffix: ClassVar[str] = ".txt"
    media_type: ClassVar[str] = "text/x-numbers"

    def draw(self, explanations: list[Explanation]) -> Artifact:
        text = "\n".join(str(one.values.tolist()) for one in explanations)
        return Artifact(self.suffix, self.media_type, text.encode())


@pytest.fixture(autouse=True, scope="module")
def a_registry_of_its_own() -> Iterator[None]:
    before = discovery._registry
    discovery._registry = Registry()
    api.register(InputTimesGradient, name="good")
    api.register(Text, name="good")
    yield
    discovery._registry = before


class TestGoodExplainer(ExplainerConformance):
    component = "good"


class TestGoodRenderer(RendererConformance):
    component = "good"


class Normalising(InputTimesGradient):
    def change(self, request: ExplainRequest, values: torch.Tensor) -> torch.Tensor:
        return values / values.abs().max()


class Rectifying(InputTimesGradient):
    def change(self, request: ExplainRequest, values: torch.Tensor) -> torch.Tensor:
        return values.clamp_min(0)


class Chancy(InputTimesGradient):
    def change(self, request: ExplainRequest, values: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            return values + torch.rand_like(values)


class Drawing(InputTimesGradient):
    def change(self, request: ExplainRequest, values: torch.Tensor) -> torch.Tensor:
        random.random()
        return values


class Hooking(InputTimesGradient):
    def change(self, request: ExplainRequest, values: torch.Tensor) -> torch.Tensor:
        request.model.module.register_forward_hook(lambda *_: None)
        return values


class Evaluating(InputTimesGradient):
    def change(self, request: ExplainRequest, values: torch.Tensor) -> torch.Tensor:
        for parameter in request.model.module.parameters():
            parameter.grad = None
        return values


class Uniform(InputTimesGradient):
    def change(self, request: ExplainRequest, values: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(values)


class Mirrored(InputTimesGradient):
    def change(self, request: ExplainRequest, values: torch.Tensor) -> torch.Tensor:
        return values.flip(2)


class Local(InputTimesGradient):
    def change(self, request: ExplainRequest, values: torch.Tensor) -> torch.Tensor:
        return values

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


@pytest.mark.parametrize(
    ("bad", "check"),
    [
        (Normalising, "test_an_image_alone_has_the_map_that_it_has_in_a_batch"),
        (Rectifying, "test_a_signed_map_changes_its_sign_with_the_target"),
        (Chancy, "test_the_same_seed_gives_the_same_map"),
        (Drawing, "test_the_model_is_left_as_found"),
        (Hooking, "test_the_model_is_left_as_found"),
        (Evaluating, "test_the_model_is_left_as_found"),
        (Uniform, "test_the_maps_are_not_constant"),
        (Uniform, "test_the_target_matters_where_the_method_says_so"),
        (Local, "test_explainer_and_explanations_survive_pickling"),
    ],
)
def test_a_bad_explainer_is_caught(bad: type[Explainer], check: str) -> None:
    api.register(bad, name="bad", replace=True)

    class Bad(ExplainerConformance):
        component = "bad"

    model = models.convolutional().to(dtype=torch.float64)
    with pytest.raises((AssertionError, TypeError, PluginError)):
        getattr(Bad(), check)(model)


def test_a_map_at_the_wrong_place_is_caught() -> None:
    api.register(Mirrored, name="bad", replace=True)

    class Bad(ExplainerConformance):
        component = "bad"

    with pytest.raises(AssertionError):
        Bad().test_the_map_lies_on_what_the_prediction_reads()


class Counting(Text):
    calls = 0

    def draw(self, explanations: list[Explanation]) -> Artifact:
        Counting.calls += 1
        return Artifact(self.suffix, self.media_type, b"%d" % Counting.calls)


class Careless(Text):
    def draw(self, explanations: list[Explanation]) -> Artifact:
        text = f"<p>{explanations[0].target.text}</p>"
        return Artifact(".html", "text/html", text.encode())

    suffix: ClassVar[str] = ".html"
    media_type: ClassVar[str] = "text/html"


class Blind(Text):
    def draw(self, explanations: list[Explanation]) -> Artifact:
        return Artifact(self.suffix, self.media_type, b"the same for all")


@pytest.mark.parametrize(
    ("bad", "check", "arguments"),
    [
        (Counting, "test_the_same_explanations_give_the_same_bytes", []),
        (Careless, "test_hostile_text_is_only_text", ["markup"]),
        (Careless, "test_hostile_text_is_only_text", ["half a surrogate"]),
        (Blind, "test_different_maps_give_different_bytes", []),
    ],
)
def test_a_bad_renderer_is_caught(bad: type[Renderer], check: str, arguments: list[str]) -> None:
    api.register(bad, name="bad", replace=True)

    class Bad(RendererConformance):
        component = "bad"

    with pytest.raises((AssertionError, UnicodeError)):
        getattr(Bad(), check)(*arguments)


def test_an_excuse_for_a_check_that_does_not_exist_is_caught() -> None:
    class Bad(ExplainerConformance):
        component = "good"
        expected_failures: ClassVar[dict[str, str]] = {"test_that_was_renamed": "old"}

    with pytest.raises(AssertionError):
        Bad().test_every_expected_failure_names_a_check()
