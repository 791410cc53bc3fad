"""The published variants against their papers' formulas, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvx_core import ClassScore, Contrast, OptionError, Target, VisionModel, get_explainer, layers
from cvx_core.plugins.parameters import parse_parameters
from cvx_core.testing import models

A = torch.tensor([[[1.0, 2.0], [3.0, 0.0]], [[0.0, 1.0], [4.0, 3.0]]], dtype=torch.float64)
"""Channel 1 sums to 6, channel 2 to 8."""
GRADIENT = torch.tensor([[[2.0, 1.0], [0.0, -2.0]], [[-1.0, 0.5], [1.0, 0.0]]], dtype=torch.float64)


class Given(nn.Module):
    """Cells that are the input, and z = (<GRADIENT, A>, -<GRADIENT, A> / 2, 0).

    z_0 = 2 + 2 + 0.5 + 4 = 8.5.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Identity()
        self.weight = nn.Parameter(torch.stack([GRADIENT, -GRADIENT / 2, 0 * GRADIENT]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bkij,ckij->bc", self.cells(x), self.weight)


def of(
    name: str,
    target: Target,
    model: VisionModel | None = None,
    batch: Tensor = A[None],
    **given: object,
) -> np.ndarray:
    """Return the map of one image, float64."""
    [one] = get_explainer(name, **given).explain(model or VisionModel(Given()), batch, target)
    return one.values.astype(np.float64)


def test_grad_cam_plus_plus() -> None:
    """Chattopadhyay 2018, eq. 19, channel by channel, with sums 6 and 8.

    Channel 1: alpha(g=2) = 4 / (8 + 6 * 8) = 1/14 and alpha(g=1) = 1 / (2 + 6) = 1/8, the negative
    gradient is rectified: w_1 = 2/14 + 1/8 = 15/56.
    Channel 2: alpha(g=1/2) = 1/4 / (1/2 + 8/8) = 1/6, alpha(g=1) = 1 / (2 + 8) = 1/10:
    w_2 = 1/12 + 1/10 = 11/60.
    """
    one, two = 15 / 56, 11 / 60
    expected = [[one, 2 * one + two], [3 * one + 4 * two, 3 * two]]
    # float32 in the explanation
    np.testing.assert_allclose(of("grad-cam-plus-plus", ClassScore(0)), expected, rtol=1e-6)


def test_grad_cam_plus_plus_of_a_seed_is_that_of_its_exponential_s_derivatives() -> None:
    """Eq. 10 for Y = exp(S) with S = z_0 - z_1 = 1.5 <GRADIENT, A>, by differentiating thrice.

    The weight of the paper carries the factor Y, which the map leaves out.
    """
    activation = A.clone().requires_grad_()
    y = (1.5 * GRADIENT * activation).sum().exp()
    [first] = torch.autograd.grad(y, activation, create_graph=True)
    second, third = torch.zeros_like(A), torch.zeros_like(A)
    for at in np.ndindex(*A.shape):
        [row] = torch.autograd.grad(first[at], activation, create_graph=True)
        second[at] = row[at].detach()
        third[at] = torch.autograd.grad(row[at], activation, retain_graph=True)[0][at]
    alpha = second / (2 * second + A.sum((1, 2), keepdim=True) * third)
    alpha = alpha.nan_to_num(0.0)  # 0 / 0 where the gradient is zero
    weights = (alpha * first.detach().clamp_min(0)).sum((1, 2), keepdim=True) / y.detach()
    expected = (weights * A).sum(0).clamp_min(0)
    np.testing.assert_allclose(
        of("grad-cam-plus-plus", Contrast(0, 1)), expected.numpy(), rtol=1e-6
    )


def test_grad_cam_plus_plus_of_small_gradients_is_not_lost() -> None:
    """alpha nears 1/2. Libraries add 1e-6 to 2 g^2 + ..., which drowns gradients below 1e-3."""
    model = VisionModel(Given())
    with torch.no_grad():
        model.module.get_parameter("weight").mul_(1e-30)
    weights = 1e-30 * GRADIENT.clamp_min(0).sum((1, 2)) / 2
    expected = (weights[:, None, None] * A).sum(0).numpy()
    np.testing.assert_allclose(of("grad-cam-plus-plus", ClassScore(0), model), expected, rtol=1e-6)


def test_xgrad_cam() -> None:
    """Fu 2020: w_1 = (2 + 2 + 0 + 0) / 6 = 2/3, w_2 = (0 + 1/2 + 4 + 0) / 8 = 9/16."""
    one, two = 2 / 3, 9 / 16
    expected = [[one, 2 * one + two], [3 * one + 4 * two, 3 * two]]
    np.testing.assert_allclose(of("xgrad-cam", ClassScore(0)), expected, rtol=1e-6)


def test_xgrad_cam_sums_to_what_gradient_times_activation_sums_to() -> None:
    """The axiom of conservation that Fu 2020 derives the weights from: here z_0 = 8.5."""
    assert of("xgrad-cam", ClassScore(0)).sum() == pytest.approx(8.5, rel=1e-6)
    model, batch = models.convolutional().to(dtype=torch.float64), models.inputs(1)
    one, two = (of(n, ClassScore(3), model, batch).sum() for n in ("xgrad-cam", "hires-cam"))
    assert one == pytest.approx(two, rel=1e-5)


def test_a_channel_that_sums_to_zero_has_no_weight_in_xgrad_cam() -> None:
    batch = torch.tensor([[[[1.0, -1], [2, -2]], [[1, 1], [1, 1]]]], dtype=torch.float64)
    # w_2 = (-1 + 0.5 + 1 + 0) / 4
    np.testing.assert_array_equal(
        of("xgrad-cam", ClassScore(0), batch=batch), np.full((2, 2), 0.125)
    )


def test_layer_cam() -> None:
    """Jiang 2021: each cell's activation times its own positive gradient, summed over channels."""
    expected = [[2 * 1 + 0, 1 * 2 + 0.5 * 1], [0 + 1 * 4, 0 + 0]]
    np.testing.assert_array_equal(of("layer-cam", ClassScore(0)), expected)


def test_hires_cam_and_grad_cam_are_those_of_the_family() -> None:
    for name in ("hires-cam", "grad-cam"):
        expected = of("class-attention", ClassScore(0), weighting=name)
        np.testing.assert_array_equal(of(name, ClassScore(0)), expected)
    np.testing.assert_array_equal(of("hires-cam", ClassScore(0)), (A * GRADIENT).sum(0).numpy())


@pytest.mark.parametrize("name", ["xgrad-cam", "layer-cam", "grad-cam-plus-plus"])
def test_the_family_takes_every_weighting(name: str) -> None:
    expected = of(name, ClassScore(0))
    np.testing.assert_array_equal(of("class-attention", ClassScore(0), weighting=name), expected)
    [one] = get_explainer("class-attention", weighting=name).explain(VisionModel(Given()), A[None])
    assert one.signed == (name == "xgrad-cam")


def test_ablation_cam_in_a_linear_head() -> None:
    """z_0 = 8.5 loses 4 without channel 1 and 4.5 without channel 2: w = (4, 4.5) / 8.5."""
    one, two = 4 / 8.5, 4.5 / 8.5
    expected = [[one, 2 * one + two], [3 * one + 4 * two, 3 * two]]
    np.testing.assert_allclose(of("ablation-cam", ClassScore(0)), expected, rtol=1e-6)
    # z_1 = -z_0 / 2: the same relative drops of a negative score speak against the class.
    found = of("ablation-cam", ClassScore(1))
    np.testing.assert_allclose(found, -np.asarray(expected), rtol=1e-6)


def test_ablation_cam_runs_the_network_again_where_a_head_is_not_linear() -> None:
    """The paper's formula with one whole run for each channel, and a plain hook that ablates it."""
    model = models.convolutional().to(dtype=torch.float64)
    batch, layer = models.inputs(1).double(), "second"
    kept: list[Tensor] = []

    def score(channel: int | None) -> float:
        def ablate(_module: nn.Module, _args: object, out: Tensor) -> Tensor:
            kept.append(out.clone())
            out = out.clone()
            if channel is not None:
                out[:, channel] = 0
            return out

        handle = model.module.get_submodule(layer).register_forward_hook(ablate)
        answer = float(model.logits(batch)[0, 2])
        handle.remove()
        return answer

    whole = score(None)
    weights = np.array([(whole - score(k)) / abs(whole) for k in range(12)])
    expected = np.einsum("k,khw->hw", weights, kept[0][0].detach().numpy())
    found = of("ablation-cam", ClassScore(2), model, batch, layer=layer)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


class Seen(nn.Module):
    """Two channels that are copies of the image's two colours; z_0 is its mean, z_1 minus that."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(2, 2, 1, bias=False)
        nn.init.dirac_(self.cells.weight)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        mean = self.cells(x).mean((1, 2, 3))
        return torch.stack([mean, -mean], 1)


def test_score_cam() -> None:
    """Wang 2020, algorithm 1, on a layer as large as the image, where nothing is enlarged.

    H_1 = A_1 / 3 and H_2 = A_2 / 4. The mean of A * H_1 over both channels is
    (1 + 4 + 9 + 0) / 3 / 8 + (0 + 2 + 12 + 0) / 3 / 8 = 28 / 24, and of A * H_2
    (0 + 2 + 12 + 0) / 4 / 8 + (0 + 1 + 16 + 9) / 4 / 8 = 40 / 32.
    """
    scores = np.array([28 / 24, 40 / 32])
    weights = np.exp(scores) / np.exp(scores).sum()
    expected = np.einsum("k,khw->hw", weights, A.numpy())
    model = VisionModel(Seen())
    found = of("score-cam", ClassScore(0), model, layer="cells")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    weights = np.exp(-scores) / np.exp(-scores).sum()
    found = of("score-cam", ClassScore(1), model, layer="cells")
    np.testing.assert_allclose(found, np.einsum("k,khw->hw", weights, A.numpy()), rtol=1e-6)


def test_score_cam_leaves_out_channels_that_are_constant() -> None:
    """H_k is 0 / 0 there; the only other channel has all of the weight, and one run is enough."""
    batch = A[None].clone()
    batch[0, 1] = 5.0
    [one] = get_explainer("score-cam", layer="cells").explain(VisionModel(Seen()), batch)
    np.testing.assert_array_equal(one.values, A[0].numpy())
    assert one.evidence["reruns"] == 1
    assert one.evidence["largest_weight"] == 1


def test_several_layers_are_averaged_on_the_finest_grid() -> None:
    """As by composition, which has tests of its own; also as the command line reads them."""
    model, batch = models.convolutional(), models.inputs(1)
    expected = layers(get_explainer("hires-cam"), ["relu#0", "third"]).explain(model, batch)
    _, read = parse_parameters("hires-cam:layers=[relu#0,third]")
    for given in (read["layers"], ("relu#0", "third")):
        [one] = get_explainer("hires-cam", layers=given).explain(model, batch)
        np.testing.assert_array_equal(one.values, expected[0].values)
        assert one.values.shape == (16, 16)
        places = [part["layer"] for part in one.provenance["parts"]]
        assert places == ["relu#0", "third"]


def test_layer_and_layers_exclude_each_other() -> None:
    with pytest.raises(OptionError, match="can't be combined"):
        get_explainer("score-cam", layer="third", layers=["first", "second"])
    for odd in (3, "third", [3]):
        with pytest.raises(OptionError, match="Write layers="):
            get_explainer("score-cam", layers=odd)
