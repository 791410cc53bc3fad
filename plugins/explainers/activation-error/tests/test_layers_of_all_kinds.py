"""Linear layers as networks use them: with batch normalisation, transposed, used twice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.utils.checkpoint import checkpoint

from cvx_core import ClassScore, Contrast, MethodError, VisionModel, get_explainer
from cvx_core.testing import models

RULES = [
    "lrp-epsilon", "lrp-gamma", "lrp-z-plus", "lrp-alpha-beta", "lrp-flat", "epsilon-plus",
    "epsilon-plus-flat", "epsilon-alpha2-beta1", "epsilon-alpha2-beta1-flat",
    "excitation-backprop", "contrastive-excitation-backprop", "attn-lrp",
]  # fmt: skip
CLASS = ClassScore(2)


def built(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    net = build().eval().double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            # Scales of both signs, so that folding turns signs of weights.
            nn.init.uniform_(module.weight, -1.0, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net


def assert_alike(name: str, one: nn.Module, other: nn.Module, x: Tensor) -> None:
    first, second = (
        get_explainer(name).explain(VisionModel(net), x, CLASS) for net in (one, other)
    )
    for a, b in zip(first, second, strict=True):
        # 1e-9 in the denominators, and the float32 of the maps
        scale = np.abs(b.values).max()
        np.testing.assert_allclose(a.values, b.values, rtol=0, atol=2e-6 * scale)
        assert scale > 0


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm1 = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.two, self.norm2 = nn.Conv2d(6, 6, 3, bias=False, padding=1), nn.BatchNorm2d(6)
        self.three, self.norm3 = nn.Linear(6, 8), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.one(x)))
        y = self.norm2(self.two(x))
        y += x
        return self.head(F.relu(self.norm3(self.three(F.relu(y).mean((2, 3))))))


def folded(net: Normalised) -> Normalised:
    """Fold each normalisation into its layer, by PyTorch's own function."""
    net.one = fuse_conv_bn_eval(net.one, net.norm1)
    net.two = fuse_conv_bn_eval(net.two, net.norm2)
    net.three = fuse_linear_bn_eval(net.three, net.norm3)
    net.norm1 = net.norm2 = net.norm3 = nn.Identity()
    return net


@pytest.mark.parametrize("name", RULES)
def test_a_batch_normalisation_is_one_layer_with_the_linear_layer_before_it(name: str) -> None:
    """The network with its normalisations folded into the weights is the same function."""
    assert_alike(name, built(Normalised), folded(built(Normalised)), models.inputs(2).double())


class Shared(nn.Module):
    """One convolution, one ReLU and one pooling, twice each."""

    def __init__(self, *, copies: bool, checkpointed: bool = False) -> None:
        super().__init__()
        self.first, self.layer, self.head = (
            nn.Conv2d(3, 6, 3),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Linear(6, 4),
        )
        self.relu, self.copies, self.checkpointed = nn.ReLU(inplace=True), copies, checkpointed
        self.again = nn.Conv2d(6, 6, 3, padding=1)
        self.again.load_state_dict(self.layer.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        if self.copies:
            x = F.max_pool2d(F.relu(self.layer(F.relu(self.first(x)))), 2)
            x = F.max_pool2d(F.relu(self.again(x)) + 0.5 * x, 2)
        else:
            x = F.max_pool2d(self.relu(self.layer(self.relu(self.first(x)))), 2)
            run = checkpoint if self.checkpointed else lambda f, v, use_reentrant: f(v)
            y = run(lambda v: self.relu(self.layer(v)), x, use_reentrant=False)
            y += 0.5 * x
            x = F.max_pool2d(y, 2)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("name", RULES)
def test_a_layer_that_is_used_twice_counts_twice(name: str) -> None:
    twice, apart = (built(lambda c=c: Shared(copies=c)) for c in (False, True))
    assert_alike(name, twice, apart, models.inputs(2).double())


@pytest.mark.parametrize("name", RULES)
def test_a_checkpointed_part_is_as_any_other(name: str) -> None:
    again, plain = (built(lambda c=c: Shared(copies=False, checkpointed=c)) for c in (True, False))
    assert_alike(name, again, plain, models.inputs(1).double())


class Upsampling(nn.Module):
    """A transposed convolution, or the same with a convolution over spread-out values."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.up, self.head = nn.ConvTranspose2d(3, 5, 2, stride=2), nn.Linear(5, 4)
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        if self.transposed:
            y = self.up(x)
        else:
            height, width = x.shape[2:]
            spread = x.new_zeros(*x.shape[:2], 2 * height + 1, 2 * width + 1)
            spread[:, :, 1::2, 1::2] = x
            weight = self.up.weight.transpose(0, 1).flip(2, 3)
            y = F.conv2d(spread, weight, self.up.bias)
        return self.head(F.relu(y).mean((2, 3)))


@pytest.mark.parametrize("name", [rule for rule in RULES if "flat" not in rule])
def test_a_transposed_convolution_is_a_convolution(name: str) -> None:
    """The flat rule is left out: it gives to the zeros in between too, by its definition."""
    one, other = (built(lambda t=t: Upsampling(transposed=t)) for t in (True, False))
    assert_alike(name, one, other, models.inputs(1).double())


class Biasless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(c, 6, 3, bias=False) for c in (3, 6))
        self.head = nn.Linear(6, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x))
        return self.head(F.avg_pool2d(F.relu(self.two(F.max_pool2d(x, 2))), 13).flatten(1))


@pytest.mark.parametrize("name", sorted(set(RULES) - {"lrp-alpha-beta"} - {"epsilon-alpha2-beta1"}))
def test_without_biases_relevance_is_conserved(name: str) -> None:
    """Sum of the map = the logits' difference (or the seed's sum), to what the divisions add."""
    model, x = VisionModel(built(Biasless)), models.inputs(2)
    for one in get_explainer(name).explain(model, x, Contrast(1, 2)):
        z = one.target.classes[0].score - one.target.classes[1].score
        expected = 0.0 if "excitation" in name else z
        scale = float(np.abs(one.values).sum())
        assert one.evidence["total"] == pytest.approx(expected, abs=1e-9)
        # alpha2-beta1-flat: where a cell has no negative part, alpha alone counts, as in the paper
        tolerance = 0.5 if "alpha2" in name else 1e-3
        assert one.evidence["sum"] == pytest.approx(expected, abs=tolerance * scale)


def test_the_opposite_of_excitation_needs_a_last_layer() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.one * x.mean((2, 3))

    with pytest.raises(MethodError, match="no linear layer") as caught:
        get_explainer("contrastive-excitation-backprop").explain(
            VisionModel(Mean()), models.inputs(1)
        )
    assert "earlier layer" in caught.value.hint


class TwoHeads(nn.Module):
    """The mean of two heads, as in networks with a distillation token."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.a, self.b = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.body(x)).mean((2, 3))
        return (self.a(x) + self.b(x)) / 2


def test_every_last_layer_is_turned_round() -> None:
    """Excitation less the excitation of a network whose heads are both negated."""
    net, opposite = built(TwoHeads), built(TwoHeads)
    for head in (opposite.a, opposite.b):
        nn.init.zeros_(head.bias)
        head.weight.data.neg_()
    for head in (net.a, net.b):
        nn.init.zeros_(head.bias)
    x = models.inputs(1).double()
    contrast, plain, turned = (
        get_explainer(name).explain(VisionModel(model), x, CLASS)[0].values
        for name, model in (
            ("contrastive-excitation-backprop", net),
            ("excitation-backprop", net),
            ("excitation-backprop", opposite),
        )
    )
    # 1e-9 in the denominators, and the float32 of three maps
    np.testing.assert_allclose(contrast, plain - turned, rtol=0, atol=5e-6 * np.abs(plain).max())


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("resnet18", "epsilon-plus-flat"),
        ("resnet18", "contrastive-excitation-backprop"),
        ("swin_t", "attn-lrp"),
        ("mobilenet_v3_small", "lrp-gamma"),
        ("VisionTransformer", "attn-lrp"),
    ],
)
def test_published_architectures_need_no_canonizer(architecture: str, name: str) -> None:
    """Finite, not constant, and different for different classes."""
    torch.manual_seed(0)
    build, options = getattr(torchvision.models, architecture), {"weights": None}
    if architecture == "VisionTransformer":
        options = {"image_size": 64, "patch_size": 16, "num_layers": 2, "num_heads": 2}
        options |= {"hidden_dim": 32, "mlp_dim": 64}
    net = build(num_classes=5, **options).eval()
    if architecture == "VisionTransformer":
        nn.init.normal_(net.heads[-1].weight)  # begun at zero, all classes would be alike
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    both = [[ClassScore(0), ClassScore(1)]]
    one, other = (e.values for e in get_explainer(name).explain(VisionModel(net), x, both))
    assert np.isfinite(one).all()
    assert np.ptp(one) > 0
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()
