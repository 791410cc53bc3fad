"""LXT, by the authors of AttnLRP, as an oracle (Achtibat 2024, arXiv:2402.05602).

A vision transformer of torchvision is written once more in LXT's explicit functions, in float64.
LXT has them for everything but the gamma rule, for which its authors take zennit's.

Two things differ, and the last tests have the papers' numbers by hand. LXT adds epsilon to an
answer of any sign, where Bach 2015 subtracts it from a negative one: here it is handed an epsilon
with the sign. And its softmax sums relevance along the last dimension, whichever was normalised;
in an attention it is the last. Its gradient-times-input functions (`lxt.efficient`) are not
compared: lxt 2.1 can't import them beside transformers 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from cvx_core import ClassScore, VisionModel, get_explainer

pytest.importorskip("lxt", reason="lxt is not installed")
pytest.importorskip("zennit", reason="zennit is not installed")
from lxt.explicit import functional as lf
from lxt.explicit.rules import identity
from zennit.rules import Gamma

CLASS = 2
Linear = Callable[[Tensor, Tensor, Tensor], Tensor]


def transformer(seed: int) -> VisionTransformer:
    """Two blocks of two heads over 2 x 3 patches and a class token; no parameter is zero."""
    torch.manual_seed(seed)
    net = VisionTransformer(
        image_size=8,
        patch_size=4,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=12,
        num_classes=4,
    )
    for parameter in net.parameters():  # torchvision begins with a head of zeros
        nn.init.normal_(parameter, std=0.5)
    return net.double().eval()


def epsilon_rule(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    signed = 1e-6 * F.linear(x, weight, bias).detach().sign()
    out: Tensor = lf.linear_epsilon(x, weight, bias, signed)
    return out


def gamma_rule(x: Tensor, weight: Tensor, bias: Tensor, gamma: float) -> Tensor:
    layer = nn.Linear(*reversed(weight.shape), dtype=x.dtype)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    Gamma(gamma, stabilizer=1e-9).register(layer)
    out: Tensor = layer(x)
    return out


def normalised(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    out: Tensor = lf.layer_norm_grad_fn.apply(x, norm.weight, norm.bias, norm.eps, 0.0)
    return out


def summed(a: Tensor, b: Tensor) -> Tensor:
    out: Tensor = lf.add2(a, b, epsilon=0.0)
    return out


def attended(attention: nn.MultiheadAttention, x: Tensor, linear: Linear) -> Tensor:
    heads, width = attention.num_heads, attention.head_dim
    projected = linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = projected.unflatten(-1, (3, heads, width)).permute(2, 0, 3, 1, 4)
    scores = lf.matmul(q, k.transpose(-2, -1), epsilon=0.0)
    scores = lf.mul2(scores, torch.tensor(1 / math.sqrt(width)))
    read = lf.matmul(lf.softmax(scores, -1), v, epsilon=0.0).transpose(1, 2).flatten(2)
    return linear(read, attention.out_proj.weight, attention.out_proj.bias)


def in_lxt(net: VisionTransformer, x: Tensor, linear: Linear, patches: Linear) -> Tensor:
    side, width = net.patch_size, net.hidden_dim
    cut = x.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).flatten(3)
    tokens = patches(cut.flatten(1, 2), net.conv_proj.weight.flatten(1), net.conv_proj.bias)
    tokens = torch.cat([net.class_token.expand(len(x), 1, width), tokens], 1)
    tokens = summed(tokens, net.encoder.pos_embedding)
    for block in net.encoder.layers:
        read = attended(block.self_attention, normalised(block.ln_1, tokens), linear)
        tokens = summed(read, tokens)
        first, last = block.mlp[0], block.mlp[3]
        hidden = linear(normalised(block.ln_2, tokens), first.weight, first.bias)
        hidden = identity(F.gelu, hidden)
        tokens = summed(tokens, linear(hidden, last.weight, last.bias))
    read = normalised(net.encoder.ln, tokens)[:, 0]
    return linear(read, net.heads.head.weight, net.heads.head.bias)


def by_lxt(net: VisionTransformer, x: Tensor, linear: Linear, patches: Linear) -> Tensor:
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        logits = in_lxt(net, x, linear, patches)
    torch.testing.assert_close(logits, net(x), rtol=1e-10, atol=1e-10)
    begun = torch.zeros_like(logits)
    begun[:, CLASS] = logits[:, CLASS].detach()
    (relevance,) = torch.autograd.grad(logits, x, begun)
    return relevance.sum(1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("parameters", "linear", "patches"),
    [
        ({"gamma": 0.0, "convolution_gamma": 0.0}, epsilon_rule, epsilon_rule),
        (
            {},
            lambda *layer: gamma_rule(*layer, gamma=0.05),
            lambda *layer: gamma_rule(*layer, gamma=0.25),
        ),
    ],
    ids=["epsilon", "gamma as by default"],
)
def test_a_vision_transformer_has_the_relevance_that_lxt_gives_it(
    parameters: dict[str, float], linear: Linear, patches: Linear, seed: int
) -> None:
    """Computed in float64, and equal but for the rounding of a map to float32, 6e-8."""
    net = transformer(seed)
    batch = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).double()
    expected = by_lxt(net, batch, linear, patches).numpy()
    found = get_explainer("attn-lrp", **parameters).explain(
        VisionModel(net), batch, ClassScore(CLASS)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, other, rtol=0, atol=1e-7 * np.abs(other).max())


class Map(nn.Module):
    """A function of the pixels; the second class is zero."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.one = function, nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        z = self.function(x[:, 0] * self.one).reshape(-1, 1)
        return torch.cat([z, torch.zeros_like(z)], 1)


def relevance_of(
    function: Callable[[Tensor], Tensor], x: Tensor, name: str, **parameters: float
) -> np.ndarray:
    model = VisionModel(Map(function))
    [one] = get_explainer(name, **parameters).explain(model, x[None, None], ClassScore(0))
    return one.values


def test_epsilon_has_the_sign_of_the_answer_which_it_has_not_in_lxt() -> None:
    """y = x_1 - 2 x_2 = -1 at (1, 1), epsilon 1/2: (1, -2) / (-1 - 1/2) of -1 by Bach 2015, eq. 58;
    LXT has -1 + 1/2, and doubles the relevance that epsilon is there to damp."""
    x, weight = torch.ones(1, 2).double(), torch.tensor([[1.0, -2.0]]).double()
    ours = relevance_of(lambda t: F.linear(t, weight), x, "lrp-epsilon", epsilon=0.5)
    np.testing.assert_allclose(ours, [[2 / 3, -4 / 3]], rtol=1e-6)
    x.requires_grad_()
    y = lf.linear_epsilon(x, weight, epsilon=0.5)
    (theirs,) = torch.autograd.grad(y, x, y.detach())
    np.testing.assert_allclose(theirs, [[2, -4]], rtol=1e-12)


def test_softmax_sums_along_its_own_dimension_which_it_does_not_in_lxt() -> None:
    """Columns (ln 3, 0) and (0, 0) are (3/4, 1/4) and (1/2, 1/2). Times (4, 8) and (2, 6): R is
    (3, 2) and (1, 3), and ln 3 takes ln 3 (3 - 3/4 (3 + 2)) by Achtibat 2024, prop. 3.1. LXT takes
    the sum of the row, 3 + 1, and so nothing is left."""
    x = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]], dtype=torch.float64)
    factors = torch.tensor([[4.0, 2.0], [8.0, 6.0]]).double()
    ours = relevance_of(lambda t: (t.softmax(1) * factors).sum((1, 2)), x, "attn-lrp", gamma=0.0)
    np.testing.assert_allclose(ours, [[-0.75 * math.log(3), 0], [0, 0]], rtol=1e-6)
    x.requires_grad_()
    s = lf.softmax(x, 0)
    (theirs,) = torch.autograd.grad(s, x, (s * factors).detach())
    np.testing.assert_allclose(theirs, np.zeros((2, 2)), rtol=0, atol=1e-12)
