"""The effective receptive field (Luo 2016, arXiv:1701.04128) of stacks of convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_location_attention.receptive_field.effective_field import spread
from torch import Tensor, nn

from cvx_core import OptionError, VisionModel, get_explainer
from cvx_core.testing import models


class Stack(nn.Module):
    """Convolutions with equal weights of 1 and nothing between them."""

    def __init__(self, depth: int, kernel: int, relu: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers.append(nn.Conv2d(1, 1, kernel, padding=kernel // 2, bias=False))
            nn.init.ones_(layers[-1].weight)
            if relu:
                layers.append(nn.ReLU())
        self.body, self.head = nn.Sequential(*layers), nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def field(net: nn.Module, batch: Tensor, **parameters: object) -> object:
    last = f"body.{len(net.body) - 1}"
    explainer = get_explainer("effective-receptive-field", layer=last, **parameters)
    [one] = explainer.explain(VisionModel(net), batch)
    return one


def test_three_equal_convolutions_make_a_bell() -> None:
    """1 1 1 convolved with itself three times over is 1 3 6 7 6 3 1, along each axis."""
    one = field(Stack(3, 3), torch.randn(1, 1, 15, 15))
    bell = np.array([1, 3, 6, 7, 6, 3, 1])
    expected = np.zeros((15, 15))
    expected[4:11, 4:11] = bell[:, None] * bell
    np.testing.assert_allclose(one.values, expected, rtol=1e-6)


@pytest.mark.parametrize(("depth", "kernel"), [(3, 3), (10, 3), (4, 5), (6, 7)])
def test_its_spread_grows_with_the_root_of_the_depth(depth: int, kernel: int) -> None:
    """Section 2.2 of the paper: sigma = sqrt(n (k^2 - 1) / 12)."""
    one = field(Stack(depth, kernel), torch.randn(1, 1, 61, 61))
    expected = (depth * (kernel**2 - 1) / 12) ** 0.5
    assert one.evidence["spread"] == pytest.approx(expected, rel=1e-5)  # float32


def test_the_spread_of_two_pixels_by_hand() -> None:
    """Weights 3 and 1 two columns apart: variance 3/4 * 1/4 * 4 = 3/4 across and 0 down."""
    image = torch.zeros(2, 4, 4)
    image[0, 1, 0], image[0, 1, 2] = 3, 1
    image[1, 2, 2] = 5
    torch.testing.assert_close(spread(image), torch.tensor([(3 / 8) ** 0.5, 0]).double())


def test_channels_of_the_layer_are_summed_and_those_of_the_image_make_a_length() -> None:
    """Weights (3, 4) and (0, 8) of two channels for two colours: (3 + 0, 4 + 8), length 12.37."""
    net = Stack(1, 1)
    net.body = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False))
    net.body[0].weight.data = torch.tensor([[3.0, 4.0], [0.0, 8.0]]).reshape(2, 2, 1, 1)
    net.head = nn.Linear(2, 2)
    one = field(net, torch.randn(1, 2, 5, 5))
    assert np.argwhere(one.values).tolist() == [[2, 2]]
    assert one.values[2, 2] == pytest.approx(153**0.5)


def test_averaged_over_noise_it_is_the_mean_of_its_maps() -> None:
    """Each noise image has its own seed, drawn from the target's."""
    torch.manual_seed(0)
    net = Stack(2, 3, relu=True)
    net.body[0].weight.data.normal_()
    net.body[2].weight.data.normal_()
    batch = torch.randn(1, 1, 9, 9)
    own = torch.randint(2**62, (5,), generator=torch.Generator().manual_seed(4)).tolist()
    maps = []
    for seed in own:
        x = torch.randn(1, 9, 9, generator=torch.Generator().manual_seed(seed))[None]
        x.requires_grad_()
        net.body(x)[0, :, 4, 4].sum().backward()
        maps.append(x.grad[0, 0].abs().numpy())
    explainer = get_explainer("effective-receptive-field", layer="body.3", copies=5)
    for budget in (None, 1):
        [one] = explainer.explain(VisionModel(net), batch, seed=4, budget=budget)
        np.testing.assert_allclose(one.values, np.mean(maps, 0), rtol=1e-5, atol=1e-7)
        error = (np.std(maps, 0, ddof=1) / 5**0.5).mean()
        assert one.evidence["standard_error"] == pytest.approx(error, rel=1e-4)
        assert one.evidence["copies"] == 5
        assert one.provenance["seed"] == 4


def test_every_image_has_the_same_field_of_noise() -> None:
    explainer = get_explainer("effective-receptive-field", copies=3)
    first, second = explainer.explain(models.tokens(), models.inputs(2))
    np.testing.assert_array_equal(first.values, second.values)
    assert first.values.max() > 0


@pytest.mark.parametrize("copies", [-1, 1, 2.5, "many"])
def test_numbers_of_copies_that_mean_nothing_are_refused(copies: object) -> None:
    with pytest.raises(OptionError):
        get_explainer("effective-receptive-field", copies=copies)
