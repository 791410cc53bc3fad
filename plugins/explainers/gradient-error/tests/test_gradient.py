"""The gradient of the error against hand computation, finite differences and Captum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from captum.attr import InputXGradient, Saliency
from torch import Tensor, nn

from cvx_core import (
    ClassScore,
    Error,
    Margin,
    OptionError,
    Target,
    TargetError,
    VisionModel,
    get_explainer,
)
from cvx_core.testing import models

Array = npt.NDArray[np.float64]


def of(
    model: VisionModel, batch: Tensor, target: Target | None = None, label: int | None = None,
    **parameters: object,
) -> Array:  # fmt: skip
    """Return the map of one image, float64, by default the signed one."""
    explainer = get_explainer("gradient-error", **{"output": "signed", **parameters})
    [one] = explainer.explain(model, batch, target, label)
    return one.values.astype(np.float64)


class Affine(nn.Module):
    """z = W x + b for the four pixels x of a grey 2 x 2 image."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3, dtype=torch.float64)
        self.linear.weight = nn.Parameter(
            torch.tensor([[1, 0, 2, -1], [0, 1, 0, 3], [-2, 1, 1, 0]], dtype=torch.float64)
        )
        self.linear.bias = nn.Parameter(torch.tensor([0.5, 0, -0.5], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


X = torch.tensor([[[[1.0, 2.0], [3.0, -1.0]]]], dtype=torch.float64)
"""Its logits: 1 + 6 + 1 + 0.5 = 8.5, 2 - 3 = -1, -2 + 2 + 3 - 0.5 = 2.5; class 0 is the answer."""


@pytest.fixture
def affine() -> VisionModel:
    return VisionModel(Affine())


def test_the_margin_of_a_linear_model(affine: VisionModel) -> None:
    """g = W_0 - W_2 = (3, -1, 1, -1), and x * g = (3, -2, 3, 1)."""
    np.testing.assert_array_equal(of(affine, X, label=2), [[3, -2], [3, 1]])
    np.testing.assert_array_equal(of(affine, X, label=2, output="sensitivity"), [[3, 1], [1, 1]])


def test_the_error_of_a_linear_model_is_its_weights_times_the_error_signal() -> None:
    """g = W^T e. Zero weights and biases (ln 2, 0, 0) give p = (1/2, 1/4, 1/4) at x = 0 ...

    ... and everywhere on W x = 0. With W = ((1, 1, 0, 0), (0, 0, 1, 1), (0, 0, 0, 0)) and
    x = (2, -2, 3, -3), y = 1: e = (1/2, -3/4, 1/4), g = (1/2, 1/2, -3/4, -3/4).
    """
    net = Affine()
    with torch.no_grad():
        net.linear.weight.copy_(
            torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], dtype=torch.float64)
        )
        net.linear.bias.copy_(torch.tensor([2.0, 1.0, 1.0]).double().log())
    x = torch.tensor([[[[2.0, -2.0], [3.0, -3.0]]]], dtype=torch.float64)
    found = of(VisionModel(net), x, Error(1))
    # the softmax of logarithms is exact but for rounding
    np.testing.assert_allclose(found, [[1, -1], [-2.25, 2.25]], rtol=1e-6)
    found = of(VisionModel(net), x, Error(1), output="sensitivity")
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.75, 0.75]], rtol=1e-6)


class Smooth(nn.Module):
    """A small network without corners, so that differences converge."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 4, 3, stride=2), nn.Tanh()
        )
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return 3 * self.head(self.body(x).flatten(1))


@pytest.fixture
def smooth() -> VisionModel:
    torch.manual_seed(0)
    return VisionModel(Smooth().double())


@pytest.fixture
def small() -> Tensor:
    return torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(5)).double()


def differences(model: VisionModel, x: Tensor, of_logits: object) -> Array:
    """Return the central differences (C, H, W) of a scalar of the logits, one pixel at a time."""
    step = 1e-5
    moves = step * torch.eye(x.numel(), dtype=torch.float64).reshape(-1, *x.shape[1:])
    up, down = (of_logits(model.logits(x + sign * moves)) for sign in (1, -1))  # type: ignore[operator]
    return ((up - down) / (2 * step)).reshape(x.shape[1:]).numpy()


@pytest.mark.parametrize("kind", ["loss", "margin"])
def test_finite_differences_are_the_same(smooth: VisionModel, small: Tensor, kind: str) -> None:
    """Of the cross-entropy for Error(y), of z_q - z_y for Margin(y)."""
    logits = smooth.logits(small)
    q, y = int(logits.argmax()), int(logits.argmin())

    def scalar(z: Tensor) -> Tensor:
        if kind == "margin":
            return z[:, q] - z[:, y]
        return F.cross_entropy(z, torch.full((len(z),), y), reduction="none")

    gradient = differences(smooth, small, scalar)
    target = Margin(y) if kind == "margin" else Error(y)
    signed = (small[0].numpy() * gradient).sum(0)
    # second-order differences: step^2 = 1e-10 and rounding / step = 1e-11, then float32
    np.testing.assert_allclose(
        of(smooth, small, target), signed, rtol=1e-5, atol=1e-7 * np.abs(signed).max()
    )
    np.testing.assert_allclose(
        of(smooth, small, target, output="sensitivity"), np.abs(gradient).max(0), rtol=1e-5
    )


def test_the_error_is_the_pull_of_the_other_classes_less_that_of_the_truth(
    smooth: VisionModel, small: Tensor
) -> None:
    """g = (1 - p_y) [sum_{s != y} a_s dz_s - dz_y], a_s = p_s / (1 - p_y): so are the maps."""
    p = smooth.logits(small).softmax(1)[0].numpy()
    each = [of(smooth, small, ClassScore(c)) for c in range(4)]
    for y in range(4):
        others = sum(p[s] / (1 - p[y]) * each[s] for s in range(4) if s != y)
        expected = (1 - p[y]) * (others - each[y])
        found = of(smooth, small, Error(y))
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("output", ["signed", "sensitivity", "path"])
def test_a_right_answer_has_no_margin(smooth: VisionModel, small: Tensor, output: str) -> None:
    """Exactly zero, and the note says why."""
    right = int(smooth.logits(small).argmax())
    [one] = get_explainer("gradient-error", output=output).explain(smooth, small, label=right)
    assert np.count_nonzero(one.values) == 0
    assert one.target.note.startswith(
        "The prediction is correct, so the margin and its map are zero. Target 'error' shows"
    )


@pytest.mark.parametrize("output", ["signed", "sensitivity"])
def test_a_loss_of_exactly_zero_has_a_map_of_exactly_zero(affine: VisionModel, output: str) -> None:
    """A thousand times the image: logits 8000.5, -1000 and 3000 less a bit, p_0 = 1 exactly."""
    [one] = get_explainer("gradient-error", output=output).explain(affine, 1000 * X, Error(0))
    assert np.count_nonzero(one.values) == 0
    assert one.target.note == (
        "The prediction is correct and certain: the error and its map are zero."
    )


def test_captum_s_saliency_is_the_sensitivity() -> None:
    """Captum's Saliency keeps the colours apart; Simonyan 2013 takes their maximum."""
    model, batch = models.convolutional(), models.inputs(3)
    expected = Saliency(model.module).attribute(batch.clone(), 2).amax(1).numpy()
    found = get_explainer("gradient-error", output="sensitivity").explain(
        model, batch, ClassScore(2)
    )
    for one, other in zip(found, expected, strict=True):
        assert not one.signed
        assert one.unit == "logits per unit of input"
        np.testing.assert_allclose(one.values, other, rtol=0, atol=1e-6 * other.max())


def test_captum_s_input_x_gradient_summed_over_colours_is_the_signed_map() -> None:
    """For the margin: Captum's map of the answer less that of the truth."""
    model, batch = models.tokens(), models.inputs(3)
    answers = model.logits(batch).argmax(1)
    labels = (answers + 2) % 5
    oracle = InputXGradient(model.module)
    expected = sum(
        sign * oracle.attribute(batch.clone(), classes).detach().sum(1).numpy()
        for sign, classes in ((1, answers), (-1, labels))
    )
    found = get_explainer("gradient-error", steps=1).explain(model, batch, label=labels.tolist())
    for one, other in zip(found, expected, strict=True):
        assert one.signed
        np.testing.assert_allclose(one.values, other, rtol=0, atol=1e-5 * np.abs(other).max())


class LeftHalf(nn.Module):
    """A network that never looks at the right half of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = models.convolutional().module

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x[..., :16].repeat(1, 1, 1, 2))


@pytest.mark.parametrize("output", ["signed", "sensitivity", "path"])
def test_what_the_model_ignores_is_exactly_zero(output: str) -> None:
    found = of(VisionModel(LeftHalf()), models.inputs(1), ClassScore(0), output=output)
    assert np.count_nonzero(found[:, 16:]) == 0
    assert np.abs(found[:, :16]).max() > 0


def test_without_a_label_the_way_out_is_named(smooth: VisionModel, small: Tensor) -> None:
    with pytest.raises(TargetError, match="no label was given") as caught:
        get_explainer("gradient-error").explain(smooth, small)
    assert "label=" in caught.value.hint


@pytest.mark.parametrize(
    "parameters",
    [
        {"output": "gradient"},
        {"baseline": "black"},
        {"output": "path", "steps": 0},
        {"output": "path", "steps": 2.5},
        {"output": "path", "steps": 10**6},
        {"output": "path", "tolerance": -0.1},
        {"output": "path", "tolerance": float("nan")},
    ],
)
def test_values_that_mean_nothing_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        get_explainer("gradient-error", **parameters)
