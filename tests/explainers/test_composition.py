"""Explainers made of explainers, on numbers worked out by hand."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvx_core import Attribution, Explainer, ExplainRequest, Requirements
from cvx_core.errors import OptionError
from cvx_core.explainers.base import rectify
from cvx_core.explainers.composition import (
    compose,
    contrast,
    is_composition,
    layers,
    mean,
    product,
    smooth,
)
from cvx_core.explainers.runner import run
from cvx_core.explanations.explanation import Explanation
from cvx_core.models.vision_model import VisionModel
from cvx_core.tasks.targets import ClassScore, Margin

WEIGHTS = torch.tensor([[1.0, -2.0, 0.0, 4.0], [0.0, 1.0, 1.0, 0.0]])


class Linear(nn.Module):
    """Two logits of the 2 x 2 pixels of the first channel: z = W x; optionally x^2."""

    def __init__(self, power: int = 1) -> None:
        super().__init__()
        self.weight, self.power = nn.Parameter(WEIGHTS.clone()), power
        self.named = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.named(x * 1.0)
        return (x[:, 0].flatten(1) ** self.power) @ self.weight.T


@dataclass(frozen=True)
class Gradient(Explainer):
    """times * d<s, z>/dA, the sum over channels."""

    layer: str = "input"
    times: float = 1.0

    def requirements(self) -> Requirements:
        return Requirements(self.layer)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        recording = request.recording(self.requirements())
        place = recording.layer(self.layer).name
        return [
            Attribution(
                self.times * recording.gradient(seed, self.layer).sum(1),
                {"own": 1},
                {"layer": place},
            )
            for seed in request.seeds(recording.logits)
        ]


@dataclass(frozen=True)
class Coarse(Explainer):
    """One cell with a given value for every image."""

    value: float = 8.0
    unit = "cells"

    def requirements(self) -> Requirements:
        return Requirements("input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        count = len(request.seeds(request.recording(self.requirements()).logits))
        cell = torch.full((len(request.inputs), 1, 1), self.value)
        return [Attribution(cell)] * count


def explain(explainer: Explainer, x: Tensor | None = None, **asked: object) -> list[Explanation]:
    x = torch.ones(1, 3, 2, 2) if x is None else x
    asked.setdefault("target", ClassScore(0))
    return explainer.explain(VisionModel(Linear()), x, **asked)  # type: ignore[arg-type]


def rows(one: Explanation) -> list[list[float]]:
    return [[float(v) for v in row] for row in one.values]


def test_mean_is_the_average_cell_by_cell() -> None:
    [one] = explain(mean(Gradient(), Gradient(times=3.0)))
    assert rows(one) == [[2, -4], [0, 8]]
    assert one.evidence["sum"] == 6


def test_product_multiplies_cell_by_cell() -> None:
    [one] = explain(product(Gradient(), Gradient(times=2.0)))
    assert rows(one) == [[2, 8], [0, 32]]


def test_a_coarser_map_is_brought_to_the_finest_grid_with_its_sum() -> None:
    """One cell of 8 becomes four of 2; with (1, -2, 0, 4) the averages are 1.5, 0, 1, 3."""
    [one] = explain(mean(Coarse(), Gradient()))
    assert rows(one) == [[1.5, 0], [1, 3]]
    assert one.evidence["sum"] == (8 + 3) / 2


def test_rectify_keeps_what_speaks_for() -> None:
    [one] = explain(Gradient() | rectify)
    assert rows(one) == [[1, 0], [0, 4]]
    assert one.signed is False
    assert one.evidence["own"] == 1
    assert Gradient().signed


def test_any_function_of_maps_is_a_step() -> None:
    def twice(values: Tensor) -> Tensor:
        return 2 * values

    [one] = explain(Gradient() | twice | rectify)
    assert rows(one) == [[2, 0], [0, 8]]
    parameters = one.provenance["parameters"]
    assert parameters["step"] == "rectify"
    [inner] = parameters["parts"]
    assert inner["step"] == "twice"
    [innermost] = inner["parts"]
    assert (innermost["method"], innermost["times"]) == ("gradient", 1.0)


def test_contrast_asks_why_p_rather_than_q_unless_asked_otherwise() -> None:
    [one] = explain(contrast(Gradient(), 0, 1), target=None)
    assert rows(one) == [[1, -3], [-1, 4]]
    assert one.target.kind == "contrast"
    [otherwise] = explain(contrast(Gradient(), 0, 1), target=ClassScore(1))
    assert rows(otherwise) == [[0, 1], [1, 0]]
    [back] = explain(contrast(Gradient(), 1, 0), target=None)
    np.testing.assert_array_equal(back.values, -one.values)


def test_layers_averages_over_layers_and_names_them() -> None:
    [one] = explain(layers(Gradient(), ["input", "named"]))
    assert rows(one) == [[1, -2], [0, 4]]
    assert [part["layer"] for part in one.provenance["parts"]] == ["input", "named"]
    assert [part["layer"] for part in one.provenance["parameters"]["parts"]] == ["input", "named"]


def test_smoothing_a_linear_network_changes_nothing() -> None:
    [one] = explain(smooth(Gradient(), n=4, sigma=0.5), torch.rand(1, 3, 2, 2))
    assert rows(one) == [[1, -2], [0, 4]]
    assert one.evidence["standard_error"] == 0
    assert one.evidence["copies"] == 4


def test_smoothing_is_the_average_over_the_noise_that_the_seed_gives() -> None:
    """d(w x^2)/dx = 2 w x, so the mean map is 2 w times the mean noisy input."""
    model, x = VisionModel(Linear(power=2)), torch.rand(1, 3, 2, 2)
    [one] = smooth(Gradient(), n=5, sigma=0.2).explain(model, x, ClassScore(0), seed=9)
    generator = torch.Generator().manual_seed(9)
    span = x.max() - x.min()
    noisy = torch.stack(
        [x[0] + 0.2 * span * torch.randn(3, 2, 2, generator=generator) for _ in range(5)]
    )
    maps = 2 * WEIGHTS[0].view(2, 2) * noisy[:, 0]
    np.testing.assert_allclose(one.values, maps.mean(0), rtol=1e-5)
    error = (maps.std(0) / 5**0.5).mean()
    assert one.evidence["standard_error"] == pytest.approx(float(error), rel=1e-5)
    assert one.provenance["seed"] == 9


def test_smoothing_repeats_under_a_seed_and_differs_under_another() -> None:
    model, x = VisionModel(Linear(power=2)), torch.rand(2, 3, 2, 2)
    once, again, other = (
        [one.values for one in smooth(Gradient(), n=3).explain(model, x, seed=seed)]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


def test_smoothing_does_not_depend_on_what_else_is_in_the_batch() -> None:
    model, x = VisionModel(Linear(power=2)), torch.rand(3, 3, 2, 2)
    together = smooth(Gradient(), n=3).explain(model, x)
    for i, one in enumerate(together):
        [alone] = smooth(Gradient(), n=3).explain(model, x[i : i + 1])
        np.testing.assert_allclose(alone.values, one.values, rtol=1e-6)


def test_smoothing_asks_all_copies_what_the_clean_image_was_asked() -> None:
    """Noise that is larger than the image changes the prediction, and not the question."""
    model = VisionModel(Linear())
    x = torch.tensor([[0.4, 0.5], [0.5, 0.5]]).expand(1, 3, 2, 2)
    clean = model.logits(x).argmax()
    [one] = smooth(Gradient(), n=8, sigma=50.0).explain(model, x)
    assert rows(one) == WEIGHTS[clean].view(2, 2).tolist()
    assert one.target.predicted.index == clean


def test_the_passes_of_all_copies_are_counted() -> None:
    [one] = explain(smooth(Gradient(), n=4), torch.rand(1, 3, 2, 2))
    assert one.evidence["forwards"] == 1 + 4
    assert one.evidence["backwards"] == 4


def test_parts_share_their_forward_pass() -> None:
    together = mean(Gradient(), Gradient(times=2.0), Gradient("named"))
    [one] = explain(together)
    assert one.evidence["forwards"] == 1
    assert one.evidence["backwards"] == 3
    several = run(
        VisionModel(Linear()),
        torch.ones(1, 3, 2, 2),
        [together, Gradient(), Gradient() | rectify],
        ClassScore(1),
    )
    assert [one.evidence["forwards"] for one in several] == [1, 0, 0]


def test_compositions_compose() -> None:
    explainer = contrast(mean(Gradient(), smooth(Gradient(times=3.0), n=2)), 1, 0) | rectify
    [one] = explain(explainer, target=None)
    # Why 1 rather than 0 is (-1, 3, 1, -4); the mean of once and three times that is twice it.
    assert rows(one) == [[0, 6], [2, 0]]
    [contrasted] = one.provenance["parameters"]["parts"]
    assert (contrasted["p"], contrasted["q"]) == (1, 0)
    [averaged] = contrasted["parts"]
    assert averaged["how"] == "mean"
    once, smoothed = averaged["parts"]
    assert once["method"] == "gradient"
    assert (smoothed["n"], smoothed["parts"][0]["times"]) == (2, 3.0)


def test_a_composition_asks_and_counts_as_its_parts_do() -> None:
    class Marginal(Gradient):
        default_target = Margin()

    class Unsigned(Gradient):
        signed = False
        class_specific = False

    both = mean(Marginal(), Unsigned())
    assert both.default_target == Margin()
    assert both.signed
    assert both.class_specific
    assert not mean(Unsigned(), Unsigned()).signed
    assert not mean(Unsigned(), Unsigned()).class_specific
    assert mean(Gradient(), Gradient()).unit == "logits"
    assert mean(Gradient(), Coarse()).unit == "", "what is counted in two units has none"


def test_compositions_are_values() -> None:
    one = mean(Gradient(), Gradient(times=3.0)) | rectify
    assert one == mean(Gradient(), Gradient(times=3.0)) | rectify
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(one) == hash(mean(Gradient(), Gradient(times=3.0)) | rectify)


def test_what_can_not_be_composed_is_refused_in_words() -> None:
    with pytest.raises(OptionError, match="needs two or more explainers, got 1"):
        mean(Gradient())
    with pytest.raises(OptionError, match="needs two or more explainers, got 0"):
        product()
    with pytest.raises(OptionError, match="n must be an integer of at least 2, got 1"):
        smooth(Gradient(), n=1)
    with pytest.raises(OptionError, match="sigma must be greater than 0, got 0"):
        smooth(Gradient(), sigma=0)
    with pytest.raises(OptionError, match="coarse takes no layer"):
        layers(Coarse(), ["input", "named"])
    with pytest.raises(OptionError, match="needs two or more explainers"):
        layers(Gradient(), ["input"])


def test_compositions_are_named_after_their_parts() -> None:
    assert mean(Gradient(), Coarse()).name == "mean(gradient, coarse)"
    assert (smooth(Gradient(), 2, 0.1) | rectify).name == "rectify(smooth(gradient))"


A, B = Gradient(), Gradient(2.0)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("mean(a, b)", mean(A, B)),
        (" product( a,b , a ) ", product(A, B, A)),
        ("smooth(a)", smooth(A)),
        ("smooth(mean(a, b), n=4, sigma=0.25)", smooth(mean(A, B), 4, 0.25)),
        ("contrast(a, 0, red fox)", contrast(A, "0", "red fox")),
        ("mean(rectify(a), b) ", mean(A | rectify, B)),
        ("rectify(mean(product(a, b), b))", mean(product(A, B), B) | rectify),
        ("a", A),
    ],
)
def test_a_text_describes_a_composition(text: str, made: Explainer) -> None:
    assert compose(text, {"a": A, "b": B}.__getitem__) == made


def test_the_parameters_of_a_part_stay_with_it() -> None:
    asked: list[str] = []

    def get(text: str) -> Explainer:
        asked.append(text)
        return A

    compose("smooth(mean(a:x=1,y=(2,3), b:z=[4,5]), n=4)", get)
    compose("smooth(a:x=1, w=2, n=4)", get)
    assert asked == ["a:x=1,y=(2,3)", "b:z=[4,5]", "a:x=1,w=2"]


def test_only_a_name_before_a_parenthesis_is_an_operation() -> None:
    assert is_composition("mean (a)")
    assert not is_composition("a:query=(1,2)")
    assert not is_composition("a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("average(a, b)", "Unknown operation 'average'"),
        ("smoth(a)", "Did you mean 'smooth'"),
        ("mean(a, b", "parentheses"),
        ("mean(a, b))", "parentheses"),
        ("mean(a)(b)", "parentheses"),
        ("mean(a, )", "empty"),
        ("mean()", "empty"),
        ("mean(a)", "two or more"),
        ("smooth(a, b)", "smooth takes 1 argument"),
        ("smooth(a, n=x)", "n must be an integer, got 'x'"),
        ("contrast(a, 0)", "contrast takes 3 arguments, got 2"),
        ("layers(a, one)", "two or more"),
    ],
)
def test_a_malformed_composition_is_an_error_with_a_hint(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        compose(text, {"a": A, "b": B}.__getitem__)
    assert message in str(caught.value)


@dataclass(frozen=True)
class NoSum(Gradient):
    """Its sum means nothing."""

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        return [replace(one, additive=False) for one in super().attribute(request)]


@pytest.mark.parametrize(
    "made", [NoSum(), mean(Gradient(), NoSum()), smooth(NoSum(), n=2), NoSum() | rectify]
)
def test_a_sum_means_nothing_if_that_of_a_part_does_not(made: Explainer) -> None:
    [one] = explain(made)
    assert (one.evidence["additive"], one.additive) == (False, False)


def test_of_other_maps_nothing_is_said_about_the_sum() -> None:
    [one] = explain(mean(Gradient(), Gradient()))
    assert "additive" not in one.evidence
    assert one.additive
