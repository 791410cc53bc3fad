"""Every rule on one layer whose numbers fit on a page.

x = (1, -2), w = ((3, 1), (-1, 2)) by inputs and outputs, b = (1, -1):
    contributions to y_1: 1*3 = 3, -2*-1 = 2, bias 1: y_1 = 6
    contributions to y_2: 1*1 = 1, -2*2 = -4, bias -1: y_2 = -4
The question is y_1 or y_2, so that R at the output is y_1 = 6 or y_2 = -4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cvx_core import ClassScore, Explanation, OptionError, VisionModel, get_explainer
from cvx_core.testing import models


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2, dtype=torch.float64)
        self.linear.weight = nn.Parameter(torch.tensor([[3.0, -1.0], [1.0, 2.0]]).double())
        self.linear.bias = nn.Parameter(torch.tensor([1.0, -1.0]).double())

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


X = torch.tensor([1.0, -2.0], dtype=torch.float64).reshape(1, 1, 1, 2)


def of(
    name: str, c: int, model: nn.Module | None = None, x: Tensor = X, **options: Any
) -> Explanation:
    [one] = get_explainer(name, **options).explain(VisionModel(model or Layer()), x, ClassScore(c))
    return one


@pytest.mark.parametrize(
    ("name", "options", "first", "second"),
    [
        # x_i w_ij / (y_j + sign epsilon) R_j, R = y
        ("lrp-epsilon", {"epsilon": 0.0}, (3, 2), (1, -4)),
        # (3, 2) * 6/8, (1, -4) * -4/-6
        ("lrp-epsilon", {"epsilon": 2.0}, (9 / 4, 3 / 2), (2 / 3, -8 / 3)),
        # positive parts 3, 2 and bias 1 of 6; of y_2 the 1 alone, which takes all of -4
        ("lrp-z-plus", {}, (3, 2), (-4, 0)),
        # y_2: 2 * 1/1 * -4 = -8 to x_1; less 1 * -4/(-4-1) * -4 = -3.2 to x_2
        # y_1 has no negative part: twice the positive shares (3, 2)
        ("lrp-alpha-beta", {}, (6, 4), (-8, 3.2)),
        # gamma = 1: y_1 > 0: (3 + 3, 2 + 2) of 6 + 6; y_2 < 0: (1, -4 - 4) of -4 - 4 - 1 = -9
        ("lrp-gamma", {"gamma": 1.0}, (3, 2), (-4 * 1 / -9, -4 * -8 / -9)),
        ("lrp-gamma", {"gamma": 0.0}, (3, 2), (1, -4)),
        # two inputs, half of R each, whatever they are
        ("lrp-flat", {}, (3, 3), (-2, -2)),
        ("epsilon-plus-flat", {}, (3, 3), (-2, -2)),
        # low -2, high 2: y_1: (3 + 6, 2 + 2) / 13 * 6, where -low w+ = 6 and -high w- = 2;
        # y_2: (1 + 2, -4 + 4) / 3 * -4
        ("epsilon-gamma-box", {"low": -2.0, "high": 2.0}, (54 / 13, 24 / 13), (-4, 0)),
        # without the bias: 3/5, 2/5; 1 of 1
        ("excitation-backprop", {}, (3 / 5, 2 / 5), (1, 0)),
        # its opposite: -w excites through the negative parts, none of y_1's and -4 of y_2's
        ("contrastive-excitation-backprop", {}, (3 / 5, 2 / 5), (1, -1)),
        # x0 = 0: x w, the bias is in both
        ("deep-lift", {}, (3, 2), (1, -4)),
        # the mean of (1, -2) is -1/2: (x - x0) w = (1.5 * 3, -1.5 * -1), (1.5 * 1, -1.5 * 2)
        ("deep-lift", {"baseline": "mean"}, (4.5, 1.5), (1.5, -3)),
    ],
)
def test_a_rule_on_one_layer(
    name: str, options: dict[str, Any], first: tuple[float, ...], second: tuple[float, ...]
) -> None:
    for c, expected in ((0, first), (1, second)):
        found = of(name, c, **options).values[0]
        # the map is float32, and 1e-6 and 1e-9 stabilise the divisions
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_the_evidence_says_what_the_bias_absorbed() -> None:
    """3 + 2 of 6 reach the input; of 6 and 5 in all, one sixth is carried by no pixel."""
    one = of("lrp-epsilon", 0, epsilon=0.0)
    assert (one.evidence["total"], one.evidence["sum"], one.evidence["absorbed"]) == (6, 5, 1)
    assert one.evidence["non_pixel_share"] == pytest.approx(1 / 6)
    assert "residual" not in one.evidence


@pytest.mark.parametrize(
    ("name", "options", "first", "second"),
    [
        # of 6 the bias 1 keeps 1; of -4 its share 1 of -3 - 1, negative as they
        ("lrp-epsilon", {"epsilon": 0.0}, 1, -1),
        # 6 - (9/4 + 3/2): the bias 6/8, the stabiliser 2/8 of 6; -4 - (2/3 - 8/3)
        ("lrp-epsilon", {"epsilon": 2.0}, 9 / 4, -2),
        # the bias is positive in y_1 and negative in y_2, where positive parts alone take
        ("lrp-z-plus", {}, 1, 0),
        # y_1 has no negative part, so that twice the 6 is handed out, 2 of it to the bias
        ("lrp-alpha-beta", {}, 6 - 10, -4 - (-8 + 3.2)),
        # the bias takes 2 of 12 parts of 6, and 2 of 9 of -4
        ("lrp-gamma", {"gamma": 1.0}, 1, -8 / 9),
        ("lrp-flat", {}, 0, 0),
        ("attn-lrp", {"gamma": 0.0}, 1, -1),
        ("excitation-backprop", {}, 0, 0),
        ("contrastive-excitation-backprop", {}, -1, 0),
    ],
)
def test_absorbed_is_what_reaches_no_cell_by_rule(
    name: str, options: dict[str, Any], first: float, second: float
) -> None:
    """Total less cells; negative where a rule hands out more than there was."""
    for c, expected in ((0, first), (1, second)):
        one = of(name, c, **options)
        assert one.evidence["absorbed"] == pytest.approx(expected, abs=2e-5)  # 1e-6 in divisions
        parts = one.evidence["sum"] + one.evidence["other_tokens"] + one.evidence["absorbed"]
        assert parts == pytest.approx(one.evidence["total"], abs=1e-12)


def test_deep_lift_is_complete_and_says_so() -> None:
    """S(x) - S(0) = 6 - 1."""
    one = of("deep-lift", 0)
    assert (one.evidence["total"], one.evidence["sum"], one.evidence["residual"]) == (5, 5, 0)


def beside_zero(z: Tensor) -> Tensor:
    """A classifier has two answers or more."""
    return torch.cat([z, torch.zeros_like(z)], 1)


class Deep(nn.Module):
    """y = 2 relu(x_1 - x_2) - relu(x_2 - x_1 + 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 2).double(), nn.Linear(2, 1, bias=False).double()
        self.first.weight = nn.Parameter(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double())
        self.first.bias = nn.Parameter(torch.tensor([0.0, 1.0]).double())
        self.last.weight = nn.Parameter(torch.tensor([[2.0, -1.0]]).double())

    def forward(self, x: Tensor) -> Tensor:
        return beside_zero(self.last(torch.relu(self.first(x.flatten(1)))))


def test_deep_lift_sees_a_gate_that_closed_on_the_way_from_the_baseline() -> None:
    """At (3, 1): y = 4 - relu(-1) = 4; at 0: y = -1. The gradient knows of the first gate alone.

    h_1 = 2 from 0: slope 2/2 = 1. h_2 = -1 from 1: relu 0 from 1: slope -1/-2 = 1/2.
    x_1: 3 * (2 * 1 - 1 * 1/2 * -1) = 7.5, x_2: 1 * (2 * -1 - 1 * 1/2 * 1) = -2.5;
    in all 5 = 4 - -1.
    """
    x = torch.tensor([3.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    one = of("deep-lift", 0, Deep(), x)
    np.testing.assert_allclose(one.values[0], [7.5, -2.5], rtol=1e-6)
    assert one.evidence["total"] == 5
    gradient = of("activation-error", 0, Deep(), x, layer="input", rule="frozen")
    np.testing.assert_allclose(gradient.values[0], [6, -2], rtol=1e-6)


class Pooled(nn.Module):
    """y = max of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return beside_zero(nn.functional.max_pool2d(x * self.scale, 2).flatten(1))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        # from 0 the maximum rises to 3, or falls to -1: all were as high as any, and the one that
        # is highest now set it
        ([1.0, 3.0, -4.0, 0.5], [0, 3, 0, 0]),
        ([-2.0, -1.0, -4.0, -3.0], [0, -1, 0, 0]),
    ],
)
def test_deep_lift_through_max_pooling(pixels: list[float], expected: list[float]) -> None:
    x = torch.tensor(pixels, dtype=torch.float64).reshape(1, 1, 2, 2)
    one = of("deep-lift", 0, Pooled(), x)
    np.testing.assert_allclose(one.values.ravel(), expected, rtol=1e-6)
    assert one.evidence["residual"] == 0


class Sum(nn.Module):
    """Two linear layers that both read the input, added, behind a normalisation of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Linear(2, 1, bias=False).double() for _ in range(2))
        self.one.weight = nn.Parameter(torch.tensor([[1.0, 1.0]]).double())
        self.two.weight = nn.Parameter(torch.tensor([[0.0, 4.0]]).double())

    def forward(self, x: Tensor) -> Tensor:
        x = ((x - 0.5) / 0.25).flip(-1).flatten(1)
        return beside_zero(self.one(x) + self.two(x))


def test_every_layer_that_reads_the_input_is_a_first_one_also_behind_a_normalisation() -> None:
    """x = (1/2, 3/4) becomes (1, 0), turned round; the layers are 1 and 0 and share R = 1 evenly.

    A pixel that is zero to the layer takes its half too, and what the normalisation scales keeps
    its relevance.
    """
    x = torch.tensor([0.5, 0.75], dtype=torch.float64).reshape(1, 1, 1, 2)
    one = of("lrp-flat", 0, Sum(), x)
    np.testing.assert_allclose(one.values[0], [0.5, 0.5], rtol=2e-6)


def test_at_another_layer_there_is_no_first_one() -> None:
    """The first convolution behind the layer is a layer like all others."""
    flat, plain = (
        get_explainer(name, layer="second").explain(models.convolutional(), models.inputs(1))
        for name in ("lrp-flat", "lrp-epsilon")
    )
    np.testing.assert_array_equal(flat[0].values, plain[0].values)


def test_the_box_is_what_preprocessing_makes_of_black_and_white() -> None:
    """(0 - 0.5) / 0.25 = -2 and (1 - 0.5) / 0.25 = 2, the bounds of the table above."""

    def prepare(image: Image.Image) -> Tensor:
        grey = torch.tensor(list(image.convert("L").resize((2, 1)).tobytes()), dtype=torch.float64)
        return ((grey / 255 - 0.5) / 0.25).reshape(1, 1, 2)

    model = VisionModel(Layer(), preprocess=prepare)
    [one] = get_explainer("epsilon-gamma-box").explain(model, X, ClassScore(0))
    np.testing.assert_allclose(one.values[0], [54 / 13, 24 / 13], rtol=2e-6)


def test_without_preprocessing_the_box_must_be_given() -> None:
    with pytest.raises(OptionError, match="bounds of the input are unknown") as caught:
        of("epsilon-gamma-box", 0)
    assert "low=" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lrp-epsilon", {"epsilon": -1.0}, "epsilon must be 0 or more, got -1"),
        ("lrp-gamma", {"gamma": -1.0}, "gamma must be 0 or more, got -1"),
        ("lrp-alpha-beta", {"alpha": 2.0, "beta": 2.0}, "got alpha=2"),
        ("epsilon-gamma-box", {"low": 0.0}, "low and high must be given together"),
        ("attn-lrp", {"gamma": -0.1}, "gamma must be 0 or more, got -0.1"),
        ("deep-lift", {"baseline": "noise"}, "baseline must be one of .*, got 'noise'"),
    ],
)
def test_values_that_mean_nothing_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        get_explainer(name, **options)
