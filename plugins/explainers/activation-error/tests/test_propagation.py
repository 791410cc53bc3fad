"""E = A * dS/dA with frozen gates, by hand and against Captum."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from captum.attr import LRP, InputXGradient
from torch import Tensor, nn

from cvx_core import (
    ClassScore,
    Contrast,
    Error,
    Explanation,
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
    model: VisionModel, batch: Tensor, target: Target | None = None, **parameters: object
) -> Explanation:
    """Return the explanation of one image."""
    [one] = get_explainer("activation-error", **{"rule": "frozen", **parameters}).explain(
        model, batch, target
    )
    return one


class Two(nn.Module):
    """Two layers and three classes, of which every number is known.

    At x = ((1, 2), (3, 0)): A_1 = relu(x) = ((1, 2), (3, 0)), A_2 = relu(2 - x) = ((1, 0), (0, 2)),
    z = (sum A_1, sum A_2 + 1, 2 A_1(0,0) - A_2(1,1)) = (6, 4, 0).
    """

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(1, 2, 1, dtype=torch.float64)
        self.mix.weight = nn.Parameter(torch.tensor([1.0, -1.0]).double().reshape(2, 1, 1, 1))
        self.mix.bias = nn.Parameter(torch.tensor([0.0, 2.0]).double())
        self.relu, self.head = nn.ReLU(), nn.Linear(8, 3, dtype=torch.float64)
        rows = [[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1], [2, 0, 0, 0, 0, 0, 0, -1]]
        self.head.weight = nn.Parameter(torch.tensor(rows).double())
        self.head.bias = nn.Parameter(torch.tensor([0.0, 1.0, 0.0]).double())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.mix(x)).flatten(1))


X = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]]]], dtype=torch.float64)
Z = (6.0, 4.0, 0.0)


@pytest.fixture
def two() -> VisionModel:
    return VisionModel(Two())


def test_the_margin_at_the_last_layer(two: VisionModel) -> None:
    """q = 0, y = 1: E = A_1 - A_2; S = m = 6 - 4 = 2 = (0 + 2 + 3 - 2) + (0 - 1)."""
    one = of(two, X, Margin(1), layer="relu")
    np.testing.assert_array_equal(one.values, [[0, 2], [3, -2]])
    assert one.evidence["total"] == 2
    assert one.evidence["sum"] == 3
    assert one.evidence["constant_part"] == -1
    assert one.evidence["other_tokens"] == 0
    assert one.evidence["residual"] == 0
    assert one.evidence["non_pixel_share"] == 0.25


def test_the_margin_at_the_pixels(two: VisionModel) -> None:
    """dS/dx = [x > 0] + [x < 2] = ((2, 1), (1, 1)): E = ((2, 2), (3, 0)).

    The two open gates of A_2 pass its bias 2 on with -1 each, and the last biases add -1: the
    constants are -5, and 7 - 5 = 2.
    """
    one = of(two, X, Margin(1), layer="input")
    np.testing.assert_array_equal(one.values, [[2, 2], [3, 0]])
    assert (one.evidence["sum"], one.evidence["constant_part"]) == (7, -5)
    assert one.evidence["total"] == 2
    assert one.evidence["residual"] == 0


@pytest.mark.parametrize("layer", ["relu", "mix", "input"])
def test_the_error_s_total_is_the_loss_less_the_entropy(two: VisionModel, layer: str) -> None:
    """sum_c e_c z_c = L - H(p), at every layer, each written out from z = (6, 4, 0)."""
    p = [math.exp(z) / sum(map(math.exp, Z)) for z in Z]
    loss, entropy = -math.log(p[2]), -sum(q * math.log(q) for q in p)
    one = of(two, X, Error(2), layer=layer)
    parts = one.evidence["sum"] + one.evidence["constant_part"] + one.evidence["other_tokens"]
    assert one.evidence["total"] == pytest.approx(loss - entropy, rel=1e-12)
    assert parts == pytest.approx(loss - entropy, rel=1e-12)


def test_the_error_at_the_last_layer(two: VisionModel) -> None:
    """E(u) = sum_c e_c sum_k W_ck(u) A_k(u), e = p - 1_2.

    Upper left: e_0 * 1 + e_1 * 1 + e_2 * 2; upper right e_0 * 2; lower left e_0 * 3;
    lower right e_1 * 2 - e_2 * 2.
    """
    p = [math.exp(z) / sum(map(math.exp, Z)) for z in Z]
    a, b, c = p[0], p[1], p[2] - 1
    expected = [[a + b + 2 * c, 2 * a], [3 * a, 2 * b - 2 * c]]
    np.testing.assert_allclose(of(two, X, Error(2), layer="relu").values, expected, rtol=1e-6)


@pytest.mark.parametrize("oracle", [InputXGradient, LRP])
def test_in_a_network_of_relus_it_is_what_captum_has(oracle: type[InputXGradient | LRP]) -> None:
    """At the pixels, where all gates are ReLU's own.

    Layer-wise relevance propagation with the epsilon rule (Bach 2015, eq. 58; Captum's default,
    with 1e-9) is then input x gradient (Ancona 2018).
    """
    model, batch = relus(), models.inputs(3).double()
    attributed = oracle(relus().module).attribute(batch.clone(), target=1)
    expected = attributed.detach().sum(1).numpy()
    found = get_explainer("activation-error", layer="input", rule="frozen").explain(
        model, batch, ClassScore(1)
    )
    for one, other in zip(found, expected, strict=True):
        # of LRP: epsilon over the smallest activations
        np.testing.assert_allclose(one.values, other, rtol=0, atol=1e-6 * np.abs(other).max())


class Relus(nn.Module):
    """Convolutions, ReLUs, a max pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()
        )
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.body(x)).flatten(1))


def relus() -> VisionModel:
    torch.manual_seed(0)
    return VisionModel(Relus().eval()).to(dtype=torch.float64)


class Gelu(nn.Module):
    """z = (gelu(x) summed, 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        first = nn.functional.gelu(self.scale * x).sum((1, 2, 3))
        return torch.stack([first, 0 * first], 1)


def test_a_held_gate_gives_each_pixel_what_it_put_through() -> None:
    """gelu(x) = x * Phi(x) with Phi(x) held: E = gelu(x), and the plain x * gelu'(x) is not it."""
    x = torch.tensor([[[[-1.0, 0.5], [2.0, 0.0]]]], dtype=torch.float64)
    one = of(VisionModel(Gelu()), x, ClassScore(0), layer="input")
    phi = [[0.5 * (1 + math.erf(v / math.sqrt(2))) for v in row] for row in x[0, 0].tolist()]
    expected = x[0, 0].numpy() * phi
    np.testing.assert_allclose(one.values, expected, rtol=1e-6)
    assert one.evidence["constant_part"] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("build", [models.convolutional, models.tokens])
def test_the_map_turns_its_sign_with_the_question(build: type[VisionModel]) -> None:
    """attr(P vs Q) = -attr(Q vs P) = attr(P) - attr(Q), at the pixels too."""
    model, batch = build().to(dtype=torch.float64), models.inputs(1)
    for layer in ("auto", "input"):
        forth = of(model, batch, Contrast(0, 3), layer=layer).values
        back = of(model, batch, Contrast(3, 0), layer=layer).values
        np.testing.assert_array_equal(forth, -back)
        p, q = (of(model, batch, ClassScore(c), layer=layer).values for c in (0, 3))
        np.testing.assert_allclose(forth, p - q, atol=1e-6 * np.abs(p).max())


class LowerHalf(nn.Module):
    """A network that never looks at the upper half of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = models.tokens().module

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x[:, :, 16:].repeat(1, 1, 2, 1))


def test_what_the_model_ignores_is_exactly_zero() -> None:
    one = of(VisionModel(LowerHalf()), models.inputs(1), ClassScore(0), layer="input")
    assert np.count_nonzero(one.values[:16]) == 0
    assert np.abs(one.values[16:]).max() > 0


def test_a_right_answer_has_no_error(two: VisionModel) -> None:
    """The margin and every part of it are exactly zero, and the note says why."""
    one = of(two, X, Margin(0))
    assert np.count_nonzero(one.values) == 0
    assert one.target.note.startswith(
        "The prediction is correct, so the margin and its map are zero. Target 'error' shows"
    )
    for part in ("total", "sum", "constant_part", "other_tokens", "residual", "non_pixel_share"):
        assert one.evidence[part] == 0


def test_unverified_the_constants_are_what_is_left_over(two: VisionModel) -> None:
    """One forward pass less, the same map, and no residual that nobody measured."""
    quick, sure = (of(two, X, Margin(1), layer="input", verify=v) for v in (False, True))
    np.testing.assert_array_equal(quick.values, sure.values)
    assert "residual" not in quick.evidence
    assert quick.evidence["constant_part"] == sure.evidence["constant_part"] == -5
    assert (quick.evidence["forwards"], sure.evidence["forwards"]) == (1, 2)


def test_unverified_the_gates_are_held_all_the_same() -> None:
    """In a transformer, where the model's own gradient is another."""
    model, batch = models.tokens(), models.inputs(1)
    quick, sure = (of(model, batch, ClassScore(2), layer="input", verify=v) for v in (False, True))
    scale = np.abs(sure.values).max()
    np.testing.assert_allclose(quick.values, sure.values, rtol=0, atol=1e-5 * scale)


def test_without_a_label_the_way_out_is_named(two: VisionModel) -> None:
    with pytest.raises(TargetError, match="no label was given") as caught:
        of(two, X)
    assert "label=" in caught.value.hint


def test_a_verify_that_is_text_is_refused() -> None:
    """ "no" is true in Python."""
    with pytest.raises(OptionError, match="verify must be true or false, got 'no'"):
        get_explainer("activation-error", verify="no")
