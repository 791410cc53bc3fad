"""A rule's map is the same however the network is written and whatever else is asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cvx_activation_error.lrp.graph import is_nonnegative
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import cvx_core as cvx
from cvx_core import ClassScore, VisionModel, get_explainer

RULES = {
    "lrp-epsilon": {},
    "lrp-gamma": {},
    "lrp-z-plus": {},
    "epsilon-plus-flat": {},
    "epsilon-alpha2-beta1": {},
    "epsilon-gamma-box": {"low": -3.0, "high": 4.0},
    "excitation-backprop": {},
    "attn-lrp": {},
}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def network() -> nn.Sequential:
    """Two convolutions with batch normalisations, some of whose scales are negative."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 3),
    ).double()
    for norm in (net[1], net[4]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.normal_()
        norm.bias.data.normal_()
    assert (net[1].weight < 0).any()
    return net.eval()


@pytest.mark.parametrize("name", RULES)
def test_batch_normalisation_is_one_layer_with_the_convolution_before_it(
    name: str, x: Tensor
) -> None:
    net = network()
    folded = nn.Sequential(
        fuse_conv_bn_eval(net[0], net[1]), net[2], fuse_conv_bn_eval(net[3], net[4]), *net[5:]
    )
    explainer = get_explainer(name, **RULES[name])
    apart, one = (explainer.explain(VisionModel(m), x, ClassScore(1)) for m in (net, folded))
    for mine, expected in zip(apart, one, strict=True):
        np.testing.assert_allclose(mine.values, expected.values, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", RULES)
def test_a_map_does_not_depend_on_what_else_is_asked(name: str, x: Tensor) -> None:
    # Between the convolution "3" and the normalisation behind it lies a layer of the other map.
    model = VisionModel(network())
    alone = get_explainer(name, **RULES[name])
    other = get_explainer(name, layer="3", **RULES[name])
    [expected, _] = cvx.explain(model, x, alone, ClassScore(1))
    together = cvx.explain(model, x, [alone, other], ClassScore(1))
    np.testing.assert_array_equal(together[0].values, expected.values)


@pytest.mark.parametrize("activation", [nn.ReLU6(), nn.Hardtanh(-0.1, 0.2), nn.Softshrink(0.1)])
@pytest.mark.parametrize("name", ["lrp-epsilon", "lrp-z-plus", "epsilon-plus"])
def test_an_activation_hands_on_all_it_gets_where_it_is_saturated_too(
    name: str, activation: nn.Module, x: Tensor
) -> None:
    """Bach 2015 gives activation functions no share; zennit's Pass does the same."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, bias=False), activation, nn.Flatten(), nn.Linear(180, 3, bias=False)
    ).double()
    net[0].weight.data *= 20  # most of the activations are saturated
    [made, _] = get_explainer(name).explain(VisionModel(net), x, ClassScore(1))
    total = made.evidence["total"]
    assert made.evidence["sum"] == pytest.approx(total, rel=1e-4, abs=1e-4 * abs(total) + 1e-5)

    pytest.importorskip("zennit", reason="zennit is not installed")
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    if name == "epsilon-plus" and isinstance(activation, nn.ReLU6):
        with Gradient(net, EpsilonPlus()) as attributor:
            seed = torch.eye(3).double()[[1]] * net(x[:1]).detach()
            _, relevance = attributor(x[:1], seed)
        np.testing.assert_allclose(made.values, relevance[0].sum(0).numpy(), rtol=1e-3, atol=1e-4)


class Padded(nn.Module):
    """The first convolution's padding, as a function before it; constant in a frame of `value`."""

    def __init__(self, net: nn.Sequential, value: float) -> None:
        super().__init__()
        self.net, self.value = net, value
        first = net[0]
        assert isinstance(first, nn.Conv2d)
        first.padding = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(nn.functional.pad(x, (1, 1, 1, 1), value=self.value))


@pytest.mark.parametrize("name", ["lrp-flat", "epsilon-plus-flat", "epsilon-gamma-box"])
def test_zeros_that_are_padded_before_a_first_layer_are_no_inputs(name: str, x: Tensor) -> None:
    explainer = get_explainer(name, **RULES.get(name, {}))
    inside, before = (
        explainer.explain(VisionModel(net), x, ClassScore(1))
        for net in (network(), Padded(network(), 0.0))
    )
    for one, other in zip(inside, before, strict=True):
        np.testing.assert_allclose(other.values, one.values, rtol=1e-6)
        assert other.evidence["absorbed"] == pytest.approx(one.evidence["absorbed"], abs=1e-9)


@pytest.mark.parametrize("value", [0.0, -1.5])
def test_the_flat_rule_hands_all_of_it_to_pixels_though_a_frame_was_padded(
    value: float, x: Tensor
) -> None:
    """Two convolutions without bias and no more: nothing may be absorbed."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    nn.init.zeros_(net[3].bias)
    [one, _] = get_explainer("lrp-flat").explain(
        VisionModel(Padded(net.double().eval(), value)), x, ClassScore(1)
    )
    assert one.evidence["absorbed"] == pytest.approx(0, abs=2e-6)  # epsilon's 1e-6


@pytest.mark.parametrize("copy", [Tensor.clone, Tensor.contiguous])
@pytest.mark.parametrize("name", RULES)
def test_a_hook_that_copies_does_not_part_a_convolution_from_its_normalisation(
    name: str, copy: Callable[[Tensor], Tensor], x: Tensor
) -> None:
    explainer = get_explainer(name, **RULES[name])
    hooked = network()
    for layer in (hooked[0], hooked[3]):
        layer.register_forward_hook(lambda _module, _args, output: copy(output))
    x = x.to(memory_format=torch.channels_last)
    plain, copied = (
        explainer.explain(VisionModel(net), x, ClassScore(1)) for net in (network(), hooked)
    )
    for one, other in zip(plain, copied, strict=True):
        np.testing.assert_array_equal(other.values, one.values)


def test_a_recorded_convolution_is_a_place_of_its_own_all_the_same(x: Tensor) -> None:
    explainer = get_explainer("lrp-epsilon", layer="0")
    for one in explainer.explain(VisionModel(network()), x, ClassScore(1)):
        assert np.abs(one.values).max() > 0


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: x.relu(), True),
        (lambda x: F.max_pool2d(x.relu(), 2).flatten(1), True),
        (lambda x: F.avg_pool2d(x.clone().relu_(), 2, padding=1), True),
        (lambda x: torch.cat([x.relu(), x.sigmoid()], dim=1)[:, 2:].transpose(1, 2), True),
        (lambda x: torch.zeros_like(x).copy_(x.relu()), True),
        (lambda x: torch.cat([x.relu(), -torch.ones_like(x)]), False),
        (lambda x: x.relu().sub_(1), False),
        (lambda x: F.leaky_relu(x), False),
        (lambda x: F.max_pool2d(x, 2), False),
        (lambda x: x.clone(), False),
    ],
)
def test_the_graph_tells_where_no_value_is_negative(
    make: Callable[[Tensor], Tensor], expected: bool, x: Tensor
) -> None:
    made = make(x.requires_grad_())
    assert is_nonnegative(made) is expected
    assert not expected or (made >= 0).all()


def test_a_scale_that_turned_negative_is_found(x: Tensor) -> None:
    net, explainer = network(), get_explainer("lrp-z-plus")
    for norm in (net[1], net[4]):
        norm.weight.data.abs_()
    model = VisionModel(net)
    before = explainer.explain(model, x, ClassScore(1))
    with torch.no_grad():
        net[1].weight.neg_()
    after, fresh = (explainer.explain(m, x, ClassScore(1)) for m in (model, VisionModel(net)))
    for one, other, old in zip(after, fresh, before, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert not np.allclose(one.values, old.values)
