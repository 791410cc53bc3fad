"""Saliency, input x gradient and integrated gradients under the names of their papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, Saliency
from torch import Tensor, nn

from cvx_core import ClassScore, VisionModel, explain, get_explainer
from cvx_core.testing import models


class Affine(nn.Module):
    """z = (3 x_1 + x_2 - 2, x_1 - 2 x_2) for the pixels x of a grey 1 x 2 image."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2, dtype=torch.float64)
        self.linear.weight = nn.Parameter(torch.tensor([[3.0, 1.0], [1.0, -2.0]]).double())
        self.linear.bias = nn.Parameter(torch.tensor([-2.0, 0.0]).double())

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


X = torch.tensor([[[[2.0, -1.0]]]], dtype=torch.float64)
"""Its logits: 6 - 1 - 2 = 3 and 2 + 2 = 4, so that class 1 is the answer."""


@pytest.mark.parametrize(
    ("name", "expected", "unit", "signed"),
    [
        ("saliency", [[1, 2]], "logits per unit of input", False),
        ("input-x-gradient", [[2, 2]], "logits", True),
        ("integrated-gradients", [[2, 2]], "logits", True),
    ],
)
def test_the_answer_of_a_linear_network(
    name: str, expected: list[list[float]], unit: str, signed: bool
) -> None:
    """|g| = (1, 2), x * g = (2, 2); the question is the answer's class, and needs no label."""
    [one] = explain(VisionModel(Affine()), X, name)
    np.testing.assert_allclose(one.values, expected, rtol=1e-7)
    assert (one.unit, one.signed, one.method) == (unit, signed, name)
    assert one.target.kind == "predicted"


def test_the_largest_of_the_colours_counts_whatever_its_sign() -> None:
    """Weights 1, -3 and 2 for the three colours of a single pixel."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False))
    net[1].weight.data = torch.tensor([[1.0, -3.0, 2.0], [0.0, 0.0, 0.0]])
    model, pixel = VisionModel(net), torch.tensor([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1)
    [one] = explain(model, pixel, "saliency", ClassScore(0))
    assert one.values.tolist() == [[3]]
    [one] = explain(model, pixel, "input-x-gradient", ClassScore(0))
    assert one.values.tolist() == [[1 - 30 + 200]]


def test_captum_gives_the_same_on_networks_with_functional_activations() -> None:
    for model in (models.convolutional(), models.tokens()):
        batch = models.inputs(2)
        expected = Saliency(model.module).attribute(batch.clone().requires_grad_(), 1).amax(1)
        found = explain(model, batch, "saliency", ClassScore(1))
        for one, other in zip(found, expected.numpy(), strict=True):
            np.testing.assert_allclose(one.values, other, rtol=0, atol=1e-6 * other.max())
        expected = InputXGradient(model.module).attribute(batch.clone().requires_grad_(), 1).sum(1)
        found = explain(model, batch, "input-x-gradient", ClassScore(1))
        for one, other in zip(found, expected.detach().numpy(), strict=True):
            np.testing.assert_allclose(one.values, other, rtol=0, atol=1e-6 * np.abs(other).max())


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("saliency", "sensitivity"),
        ("input-x-gradient", "signed"),
        ("integrated-gradients", "path"),
    ],
)
def test_the_family_gives_the_same_map_to_the_same_question(name: str, output: str) -> None:
    model, batch = models.convolutional(), models.inputs(2)
    family = get_explainer("gradient-error", output=output)
    several = explain(model, batch, [name, family], ClassScore(2))
    for one, other in zip(several[::2], several[1::2], strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert (one.unit, one.signed) == (other.unit, other.signed)


def test_a_path_from_the_mean_colour_sums_to_what_the_colours_change() -> None:
    """From (1/2, 1/2) to (2, -1): 3/2 and -3/2 times (1, -2), and z_1 rises by 4.5."""
    explainer = get_explainer("integrated-gradients", baseline="mean")
    [one] = explainer.explain(VisionModel(Affine()), X)
    np.testing.assert_allclose(one.values, [[1.5, 3]], rtol=1e-7)
    assert one.evidence["total"] == pytest.approx(4.5)
    assert one.evidence["residual"] < 1e-12


def test_the_passes_of_a_path_are_counted() -> None:
    """Of 20 points at most 8 run at once: 8, 1, 8 and 3; and one forward for the answer."""
    explainer = get_explainer("integrated-gradients", steps=20, tolerance=0)
    [one] = explainer.explain(models.convolutional(), models.inputs(1))
    assert one.evidence["path_gradients"] == 20
    assert (one.evidence["forwards"], one.evidence["backwards"]) == (5, 4)
