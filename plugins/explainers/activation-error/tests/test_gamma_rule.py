"""Gamma rule of activation-error: by hand, beside zennit, and complete on any architecture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core import (
    ClassScore,
    Contrast,
    Explanation,
    OptionError,
    VisionModel,
    get_explainer,
)


def one(net: nn.Module, x: Tensor, target: ClassScore | Contrast, **options: object) -> Explanation:
    [found] = get_explainer("activation-error", **options).explain(VisionModel(net), x, target)
    return found


def fixed(layer: nn.Module, weight: list[float], bias: list[float]) -> nn.Module:
    """Set the parameters of a layer."""
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight).reshape(layer.weight.shape))
        layer.bias.copy_(torch.tensor(bias))
    return layer


def test_shares_by_hand() -> None:
    """Two positions, y = 2 a - b + 1 and -2 a + b + 1 where a = 3, b = 1: 6 and -4."""
    conv = fixed(nn.Conv2d(2, 2, 1), [2, -1, -2, 1], [1, 1])
    head = fixed(nn.Linear(4, 1), [1, 0, 1, 0], [0.5])
    net = nn.Sequential(conv, nn.Flatten(), head).double()
    x = torch.tensor([3.0, 0.0, 1.0, 0.0], dtype=torch.float64).reshape(1, 2, 1, 2)
    found = one(nn.Sequential(net, Twice()), x, ClassScore(0), gamma=0.5)
    # First channel 6 = 6 - 1 + 1: 9, -1, and 1.5 of the bias, over 9.5. Second channel
    # -4 = -6 + 1 + 1: -9, 1 and 1, over -7.
    first, second = 6 * np.array([9, -1, 1.5]) / 9.5, -4 * np.array([-9, 1, 1]) / -7
    assert found.values[0, 0] == pytest.approx((first + second).sum())
    assert found.values[0, 1] == pytest.approx(0)
    assert found.evidence["bias_part"] == pytest.approx(first[2] + second[2])
    assert found.evidence["constant_part"] == pytest.approx(0.5), "the head's bias has no position"
    assert found.evidence["total"] == pytest.approx(2.5)


class Twice(nn.Module):
    """A second class."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([z, -z], 1)


class Little(nn.Module):
    """Convolutions with biases of both signs, batch normalization, both kinds of pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding="same", groups=4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, dilation=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network in float64, with biases and statistics other than zero and one."""
    torch.manual_seed(0)
    net = build().eval().double()
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.ndim == 1:
            positive = name.endswith(("running_var", "weight"))
            nn.init.uniform_(tensor, 0.5, 1.5) if positive else nn.init.normal_(tensor, 0, 0.1)
    return net


IMAGE = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(1)).double()


def test_the_pixel_part_is_the_gamma_rule_of_zennit() -> None:
    """Gamma in convolutions, gradient times input in the head; biases as in zennit."""
    pytest.importorskip("zennit", reason="zennit is not installed")
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import LayerMapComposite, layer_map_base
    from zennit.rules import Epsilon, Gamma
    from zennit.types import Convolution

    net = seeded(Little)
    rules = [*layer_map_base(), (Convolution, Gamma(0.25)), (nn.Linear, Epsilon(1e-12))]
    with Gradient(net, LayerMapComposite(rules, canonizers=[SequentialMergeBatchNorm()])) as by:
        z, relevance = by(IMAGE, torch.eye(5, dtype=torch.float64)[[3]] * net(IMAGE))
    expected = relevance.sum()
    found = one(net, IMAGE, ClassScore(3), gamma=0.25)
    pixels = found.evidence["sum"] - found.evidence["bias_part"]
    assert pixels == pytest.approx(float(expected), rel=1e-4)
    assert abs(pixels) > 1e-3 * abs(z[0, 3].item())


def test_the_whole_score_is_in_the_map_but_for_what_has_no_position() -> None:
    net = seeded(Little)
    head = net.get_submodule("body.10")
    for name in ("sum", "bias_part"):
        assert one(net, IMAGE, ClassScore(1)).evidence[name]
    for target, bias in (
        (ClassScore(1), head.bias[1]),
        (Contrast(0, 4), head.bias[0] - head.bias[4]),
    ):
        evidence = one(net, IMAGE, target).evidence
        assert evidence["constant_part"] == pytest.approx(bias.item(), rel=1e-9)
        assert evidence["sum"] + evidence["constant_part"] == pytest.approx(evidence["total"])
        assert evidence["residual"] < 1e-12
        assert (evidence["forwards"], evidence["backwards"]) == (1, 1)


def test_smoothing_is_a_gaussian_that_keeps_the_sum_also_at_the_edges() -> None:
    """One position of weight 1 in a map of 40 x 40: sigma 0.05 is 2 positions."""
    net = fixed(nn.Conv2d(1, 2, 1), [1, -1], [0, 0]).double()
    shown = nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    for y, x in ((20, 21), (0, 39)):
        image = torch.zeros(1, 1, 40, 40, dtype=torch.float64)
        image[0, 0, y, x] = 1600.0
        [raw, smooth] = (one(shown, image, ClassScore(0), sigma=s) for s in (0, 0.05))
        assert raw.values.sum() == pytest.approx(raw.values[y, x]) == pytest.approx(1)
        assert smooth.values.sum() == pytest.approx(1)
        assert not smooth.values[abs(np.arange(40) - y) > 6].any()
        if y:
            beside = smooth.values[y, x + 2] / smooth.values[y, x]
            assert beside == pytest.approx(np.exp(-0.5))
    assert np.array_equal(one(shown, image, ClassScore(0), sigma=0.005).values, raw.values)


def test_a_bias_is_placed_where_it_acts() -> None:
    """On a black image all there is comes from biases; a unit that is off carries nothing."""
    conv = fixed(nn.Conv2d(1, 2, 1), [1, -1], [-1, 1])
    head = fixed(nn.Linear(2, 2), [1, 1, 0, 0], [0, 0])
    net = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    x = torch.zeros(1, 1, 4, 4)
    x[..., :2] = 1.0  # 1 - 1 and -1 + 1: both units are off in the left half
    found = one(net, x, ClassScore(0))
    assert not found.values[:, :2].any()
    assert found.values[:, 2:] == pytest.approx(np.full((4, 2), 1 / 16))
    assert found.evidence["bias_part"] == pytest.approx(0.5)


def test_the_biases_of_the_last_layer_have_no_position() -> None:
    """Also where it has positions: a segmenter's are the same for every image."""
    last = fixed(nn.Conv2d(2, 2, 1), [1, 0, 0, 1], [-3, 5])
    net = nn.Sequential(fixed(nn.Conv2d(1, 2, 1), [1, 2], [0.5, 0.25]), nn.ReLU(), last).eval()
    x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    [found] = get_explainer("activation-error").explain(
        VisionModel(net, task="segmentation"), x, ClassScore(1)
    )
    pixels = found.evidence["constant_part"] / 5
    assert pixels == pytest.approx(round(pixels))
    assert pixels >= 1
    assert found.evidence["bias_part"] > 0
    assert found.evidence["residual"] < 1e-6


class Around(nn.Module):
    """A function between two convolutions, behind it a mean and a linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.stem, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.function(self.stem(x))).mean((2, 3)))


MIXED = torch.tensor([[1.0, -2.0, 0.5, 1.0]] * 4).double()
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda x: x + x.roll(1, 1),
    "scaled difference": lambda x: torch.sub(x, x.mean(1, keepdim=True), alpha=2),
    "sum in place": lambda x: x.clone().add_(x.flip(1), alpha=-0.5),
    "average pooling": lambda x: F.avg_pool2d(x, 2),
    "matrix from the left": lambda x: (MIXED @ x.flatten(2)).unflatten(2, x.shape[2:]),
    "matrix from the right": lambda x: (x.flatten(2).mT @ MIXED).mT.unflatten(2, x.shape[2:]),
    "einsum": lambda x: torch.einsum("oc,bchw->bohw", MIXED, x),
    "product": lambda x: x * x.roll(1, 1),
    "gate": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "clipped": lambda x: F.relu6(4 * x),
    "hard gate": F.hardswish,
    "constant": lambda x: x + torch.arange(4.0).double().reshape(4, 1, 1),
    "signal that is a constant": lambda x: x + F.softplus(x),
    "normalized behind a ReLU": lambda x: F.batch_norm(
        x.relu(), MIXED[0] / 8, MIXED[0].abs(), None, MIXED[0]
    ),
    "attention": lambda x: F.scaled_dot_product_attention(
        x.flatten(2).mT, x.flatten(2).mT, x.flatten(2).mT
    ).mT.unflatten(2, x.shape[2:]),
    "normalized": lambda x: F.layer_norm(x.movedim(1, -1), (4,), None, MIXED[0]).movedim(-1, 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_map_is_complete_around_any_function(name: str) -> None:
    net = seeded(lambda: Around(FUNCTIONS[name]))
    evidence = one(net, IMAGE, Contrast(0, 2)).evidence
    parts = evidence["sum"] + evidence["other_tokens"] + evidence["constant_part"]
    assert parts == pytest.approx(evidence["total"], abs=1e-9)
    assert evidence["residual"] < 1e-12


def test_an_operation_without_a_rule_leaves_a_residual() -> None:
    net = seeded(lambda: Around(lambda x: torch.cumprod(2 * x, 2)))
    assert one(net, IMAGE, Contrast(0, 2)).evidence["residual"] > 1e-4


NETWORKS: dict[str, dict[str, object]] = {
    "resnet10t": {},
    "efficientnet_lite0": {},
    "densenet121": {"growth_rate": 4, "block_config": (2, 2)},
    "vit_tiny_patch16_224": {"img_size": 64, "depth": 3},
    "convnext_atto": {"depths": (1, 1, 2, 1)},
    "mobilevit_xxs": {},
    "swin_tiny_patch4_window7_224": {
        "img_size": 64,
        "window_size": 4,
        "embed_dim": 24,
        "depths": (2, 2),
        "num_heads": (2, 4),
    },
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_map_is_complete_on_architectures(name: str, dtype: torch.dtype) -> None:
    net = seeded(lambda: timm.create_model(name, num_classes=5, **NETWORKS[name])).to(dtype)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2)).to(dtype)
    evidence = one(net, x, Contrast(0, 1)).evidence
    assert evidence["residual"] < (1e-5 if dtype == torch.float32 else 1e-10)
    assert evidence["bias_part"] != 0


def test_wrong_options_are_refused() -> None:
    with pytest.raises(OptionError, match="rule must be one of gamma, frozen"):
        get_explainer("activation-error", rule="epsilon")
    with pytest.raises(OptionError, match="gamma must be 0 or more, got -1"):
        get_explainer("activation-error", gamma=-1)
    for sigma in (-0.1, 2, float("nan")):
        with pytest.raises(OptionError, match="sigma must be between 0 and 1, got"):
            get_explainer("activation-error", sigma=sigma)
