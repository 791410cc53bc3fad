"""Zennit as an oracle, on a network that it can see into: no reuse, no functions, no batch norm.

Zennit's relevance is begun with the logit, as ours is. In float64, so that what is compared are
the rules and not the rounding: one last difference is that zennit adds 1e-6 to denominators of
pooling and of every rule, where ours divide by pooling's own weights and add 1e-9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from cvx_core import ClassScore, VisionModel, get_explainer

pytest.importorskip("zennit", reason="zennit is not installed")
from zennit import composites, rules
from zennit.attribution import Gradient
from zennit.core import Composite
from zennit.layer import Sum
from zennit.types import Convolution, Linear

CLASS = 3


def single(rule: Callable[[], Any], first: Any = None) -> Composite:
    """Return one rule for all layers, another for the first."""
    rest = [*composites.layer_map_base(), (Convolution, rule()), (nn.Linear, rule())]
    if first is None:
        return composites.LayerMapComposite(rest)
    return composites.SpecialFirstLayerMapComposite(layer_map=rest, first_map=[(Linear, first)])


CASES: dict[str, tuple[dict[str, Any], Callable[[], Composite]]] = {
    "lrp-epsilon": ({"epsilon": 1e-3}, lambda: single(lambda: rules.Epsilon(1e-3))),
    "lrp-gamma": ({}, lambda: single(rules.Gamma)),
    "lrp-z-plus": ({}, lambda: single(rules.ZPlus)),
    "lrp-alpha-beta": ({}, lambda: single(rules.AlphaBeta)),
    "lrp-flat": ({"epsilon": 1e-3}, lambda: single(lambda: rules.Epsilon(1e-3), rules.Flat())),
    "epsilon-plus": ({}, composites.EpsilonPlus),
    "epsilon-plus-flat": ({}, composites.EpsilonPlusFlat),
    "epsilon-alpha2-beta1": ({}, composites.EpsilonAlpha2Beta1),
    "epsilon-alpha2-beta1-flat": ({}, composites.EpsilonAlpha2Beta1Flat),
    "epsilon-gamma-box": (
        {"low": -3.0, "high": (3.0, 4.0, 5.0)},
        lambda: composites.EpsilonGammaBox(
            low=torch.full((1, 3, 1, 1), -3.0),
            high=torch.tensor([3.0, 4.0, 5.0]).reshape(1, 3, 1, 1),
        ),
    ),
    # Biases excite nothing in Zhang 2016, eq. 8; in zennit they do unless set to zero. And a
    # function of one element hands on all that it gets, where zennit's composite takes the
    # derivative: the same for ReLU, not for Tanh.
    "excitation-backprop": ({}, lambda: single(lambda: rules.ZPlus(zero_params=["bias"]))),
}


class Little(nn.Module):
    """Strides, groups, dilation and padding, biases of both signs, pooling of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding="same", groups=4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, dilation=2),
            nn.LeakyReLU(0.2),  # so that activations have both signs
            nn.AvgPool2d(2),
            nn.Conv2d(12, 12, (1, 2), padding_mode="circular", padding=(0, 1)),
            nn.Flatten(),
            nn.Linear(24, 16),
            nn.Tanh(),
            nn.Linear(16, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    net = build().eval().double()
    for parameter in net.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0, 0.05)
    return net


def by_zennit(net: nn.Module, composite: Composite, x: Tensor, *, winning: bool) -> np.ndarray:
    def start(z: Tensor) -> Tensor:
        seed = torch.zeros_like(z)
        seed[:, CLASS] = 1
        return seed if winning else seed * z

    with Gradient(net, composite, attr_output=start) as attributor:
        _, relevance = attributor(x)
    return relevance.sum(1).numpy()


def compare(net: nn.Module, x: Tensor, name: str, tolerance: float) -> None:
    options, composite = CASES[name]
    expected = by_zennit(net, composite(), x, winning=name == "excitation-backprop")
    found = get_explainer(name, **options).explain(VisionModel(net), x, ClassScore(CLASS))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("name", CASES)
def test_on_a_little_network_of_everything(name: str) -> None:
    x = torch.randn(2, 3, 27, 26, generator=torch.Generator().manual_seed(1)).double()
    # 1e-6 over the smallest denominators; Tanh is passed in both
    compare(seeded(Little), x, name, 1e-3)


def vgg() -> nn.Module:
    """Return VGG-11 with small fully connected layers, for speed."""
    net = torchvision.models.vgg11(weights=None, init_weights=False)
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):  # activations near 1, far from what stabilises
            nn.init.kaiming_normal_(layer.weight)
    net.classifier = nn.Sequential(nn.Linear(512 * 49, 32), nn.ReLU(), nn.Linear(32, 10))
    return net


@pytest.mark.parametrize("name", CASES)
def test_on_vgg(name: str) -> None:
    net = seeded(vgg)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    compare(net, x, name, 1e-4)


def test_zennit_s_excitation_lets_biases_win() -> None:
    """The paper's probabilities sum to one; with biases in the sum some of it stays with them."""
    net, x = seeded(vgg), torch.rand(1, 3, 32, 32).double()
    total = by_zennit(net, composites.ExcitationBackprop(), x, winning=True).sum()
    [one] = get_explainer("excitation-backprop").explain(VisionModel(net), x, ClassScore(CLASS))
    assert one.evidence["total"] == 1
    assert one.evidence["sum"] == pytest.approx(1, rel=1e-5)  # 1e-9 over each denominator
    assert total < 0.99


class Reused(nn.Module):
    """One ReLU module three times, a function, and a sum in place."""

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        self.one, self.two, self.head = (
            nn.Conv2d(3, 6, 3),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Linear(6, 5),
        )
        self.relus = nn.ModuleList([nn.ReLU(inplace=not apart)] * 3)
        if apart:
            self.relus = nn.ModuleList([nn.ReLU() for _ in range(3)])
        self.pool, self.sum = nn.AdaptiveAvgPool2d(1), Sum()  # zennit knows a sum by its module
        self.apart = apart

    def forward(self, x: Tensor) -> Tensor:
        x = self.relus[0](self.one(x))
        y = self.relus[1](self.two(x))
        if self.apart:
            return self.head(self.pool(self.relus[2](self.sum(torch.stack([x, y], -1)))).flatten(1))
        y += x
        return self.head(nn.functional.relu(y).mean((2, 3)))


@pytest.mark.parametrize("name", sorted({*CASES} - {"epsilon-gamma-box"}))
def test_how_a_network_is_written_does_not_matter(name: str) -> None:
    """The same weights in modules that zennit needs, and as networks are written."""
    plain, usual = (seeded(lambda a=apart: Reused(apart=a)) for apart in (True, False))
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)).double()
    expected, found = (
        get_explainer(name).explain(VisionModel(net), x, ClassScore(CLASS))
        for net in (plain, usual)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-5, atol=1e-9)
    compare(plain, x, name, 1e-3)
