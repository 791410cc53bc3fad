"""Conservation on networks written here for the purpose: <s, f(x)> = <g, A> + <s, f_frozen(0)>.

At the input and at layers inside, in float64 and float32. Every network holds something that
explainers by module miss: functional, reused, in-place, or a product of two paths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d, roi_align

from cvx_core.recording.conservation import constant_part
from cvx_core.recording.layer_selection.selection import open_recording

Forward = Callable[["Net", Tensor], Tensor]

IMAGES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A stem, a body that is a function of (net, features), a second convolution, and a head."""

    def __init__(self, body: Forward, **modules: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.extra = nn.ModuleDict(modules)
        self.body = body
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self, self.stem(x))
        return self.head(F.relu(self.last(x)).mean((2, 3)))


def reused_relu(net: Net, x: Tensor) -> Tensor:
    relu, conv = net.extra["relu"], net.extra["conv"]
    return relu(conv(relu(conv(relu(x)))))


def added_in_place(net: Net, x: Tensor) -> Tensor:
    y = F.relu(net.extra["conv"](x))
    y += x
    y.relu_()
    x = x * 0.5
    x -= y
    return x


def functional_gelu(net: Net, x: Tensor) -> Tensor:
    return x + F.gelu(net.extra["conv"](F.gelu(x)))


def squeeze_excitation(net: Net, x: Tensor) -> Tensor:
    squeezed = x.mean((2, 3), keepdim=True)
    x *= torch.sigmoid(net.extra["up"](F.silu(net.extra["down"](squeezed), inplace=True)))
    return x


def gated_product(net: Net, x: Tensor) -> Tensor:
    a, b = net.extra["conv"](x).chunk(2, 1)
    return torch.cat([F.glu(torch.cat([a, b], 1), 1), F.silu(a) * b], 1)


def normalised(net: Net, x: Tensor) -> Tensor:
    x = net.extra["group"](x)
    x = F.instance_norm(x) + F.relu(x)
    x = net.extra["layer"](x.permute(0, 2, 3, 1))
    x = net.extra["rms"](x + 1).permute(0, 3, 1, 2)
    return F.normalize(x, dim=1)


def pooled(net: Net, x: Tensor) -> Tensor:
    x = F.max_pool2d(x, 3, 1, 1) + F.avg_pool2d(x, 3, 1, 1)
    return net.extra["pool"](x)


def soft_gates(net: Net, x: Tensor) -> Tensor:
    return F.mish(F.hardswish(x, inplace=True) + F.elu(x)) * F.hardsigmoid(x.mean(1, keepdim=True))


def attention_by_hand(net: Net, x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    q, k, v = net.extra["qkv"](tokens).chunk(3, -1)
    weights = ((q @ k.transpose(-2, -1)) / 8**0.5).softmax(-1)
    return x + (weights @ v).transpose(1, 2).reshape_as(x)


def masked_sdpa(net: Net, x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    q, k, v = (
        t.unflatten(-1, (2, 4)).transpose(1, 2) for t in net.extra["qkv"](tokens).chunk(3, -1)
    )
    mask = torch.ones(36, 36, dtype=torch.bool).tril(3)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return mixed.transpose(1, 2).flatten(2).transpose(1, 2).reshape_as(x)


def multihead(net: Net, x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    tokens = tokens + net.extra["attention"](tokens, tokens, tokens)[0]
    # Its other path, which computes no weights.
    tokens = net.extra["attention"](tokens, tokens, tokens, need_weights=False)[0]
    return tokens.transpose(1, 2).reshape_as(x)


def encoder_layer(net: Net, x: Tensor) -> Tensor:
    return net.extra["encoder"](x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape_as(x)


def mixed_by_einsum(net: Net, x: Tensor) -> Tensor:
    context = torch.einsum("bchw,bdhw->bcd", x, x.softmax(1))
    return x + torch.einsum("bcd,bdhw->bchw", context, x) / 36


def chosen(net: Net, x: Tensor) -> Tensor:
    x = torch.where(x > 0, x, 0.1 * x).clamp(-1, 1)
    x = torch.maximum(x, x.flip(3)) - x.amax((2, 3), keepdim=True)
    order = x.mean((2, 3)).topk(8, dim=1).indices
    return x.gather(1, order[:, :, None, None].expand_as(x))


def gem(net: Net, x: Tensor) -> Tensor:
    return F.avg_pool2d(x.clamp(min=1e-6).pow(net.extra["power"].p), 3, 1, 1).pow(
        1.0 / net.extra["power"].p
    )


def without_gradient(net: Net, x: Tensor) -> Tensor:
    """Straight-through rounding, proposals under no_grad, numbers and branches."""
    x = x + ((4 * x).round() / 4 - x).detach() + 0.1 * x.data.abs()
    with torch.no_grad():
        order = F.gelu(x.mean((2, 3))).sort(dim=1).indices
        shift = torch.tanh(x).amax()
    x = x.gather(1, order[:, :, None, None].expand_as(x)) - shift
    kept = (3 * x).detach_().clamp_(-1)
    if x.mean() > kept.sum().item() / kept.numel():
        return F.silu(x) - kept * float(x.std())
    return net.extra["conv"](x) + kept


def sampled_where_it_says(net: Net, x: Tensor) -> Tensor:
    places = torch.tanh(net.extra["places"](x)).permute(0, 2, 3, 1)
    x = F.grid_sample(x, places, align_corners=False)
    boxes = 3 + 3 * torch.tanh(x[:, :4, :2, :2].mean((2, 3))) * torch.tensor([-1, -1, 1, 1])
    x = x + roi_align(x, list(boxes[:, None]), (6, 6), sampling_ratio=2)
    weight = net.extra["conv"].weight
    offset = net.extra["offset"](x)
    return x + deform_conv2d(x, offset, weight, padding=1, mask=offset[:, :9].sigmoid())


class Power(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([3.0]))


def conv(out: int = 8) -> nn.Conv2d:
    return nn.Conv2d(8, out, 3, padding=1)


NETS: dict[str, Callable[[], Net]] = {
    "reused ReLUs in place": lambda: Net(reused_relu, relu=nn.ReLU(inplace=True), conv=conv()),
    "in-place adds": lambda: Net(added_in_place, conv=conv()),
    "functional GELU": lambda: Net(functional_gelu, conv=conv()),
    "squeeze and excitation": lambda: Net(
        squeeze_excitation, down=nn.Conv2d(8, 2, 1), up=nn.Conv2d(2, 8, 1)
    ),
    "GLU products": lambda: Net(gated_product, conv=conv()),
    "normalisations": lambda: Net(
        normalised, group=nn.GroupNorm(2, 8), layer=nn.LayerNorm(8), rms=nn.RMSNorm(8)
    ),
    "pooling": lambda: Net(pooled, pool=nn.AdaptiveMaxPool2d(4)),
    "hardswish and mish": lambda: Net(soft_gates),
    "attention by hand": lambda: Net(attention_by_hand, qkv=nn.Linear(8, 24)),
    "masked scaled_dot_product_attention": lambda: Net(masked_sdpa, qkv=nn.Linear(8, 24)),
    "MultiheadAttention": lambda: Net(
        multihead, attention=nn.MultiheadAttention(8, 2, batch_first=True)
    ),
    "TransformerEncoderLayer": lambda: Net(
        encoder_layer, encoder=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    ),
    "TransformerEncoderLayer, normalised first": lambda: Net(
        encoder_layer,
        encoder=nn.TransformerEncoderLayer(
            8, 2, 16, batch_first=True, norm_first=True, activation="gelu"
        ),
    ),
    "einsum": lambda: Net(mixed_by_einsum),
    "where, clamp, maximum, amax, topk, gather": lambda: Net(chosen),
    "detached, under no_grad, numbers": lambda: Net(without_gradient, conv=conv()),
    "grid_sample, roi_align, deform_conv2d": lambda: Net(
        sampled_where_it_says, places=conv(2), conv=conv(), offset=conv(18)
    ),
    "generalised mean pooling": lambda: Net(gem, power=Power()),
}


@pytest.mark.parametrize("place", ["input", "stem", "last"])
@pytest.mark.parametrize("name", NETS)
def test_a_network_is_conserved(
    name: str, place: str, seeded: Callable[..., Any], residual: Callable[..., float]
) -> None:
    net = seeded(NETS[name])
    assert residual(net, IMAGES, place) <= 1e-4
    net = net.double()
    assert residual(net, IMAGES.double(), place) <= 1e-9
    shape = {"input": (3, 12, 12), "stem": (8, 6, 6), "last": last_shape(net)}[place]
    generator = torch.Generator().manual_seed(7)
    baseline = torch.randn((2, *shape), generator=generator, dtype=torch.float64)
    assert residual(net, IMAGES.double(), place, baseline=baseline) <= 1e-9


def last_shape(net: Net) -> tuple[int, ...]:
    with torch.no_grad():
        return tuple(net.last(net.body(net, net.stem(IMAGES.double()))).shape[1:])


def test_plain_gradient_times_input_is_not_conserved(seeded: Callable[..., Any]) -> None:
    """What frozen gates are for: the same sum with the network's own gradient misses."""
    from cvx_core.models.vision_model import VisionModel
    from cvx_core.recording import Requirements

    model = VisionModel(seeded(NETS["functional GELU"]).double())
    with open_recording(model, IMAGES.double(), Requirements("stem")) as native:
        seed = torch.ones_like(native.logits)
        plain = (native.gradients(seed, "stem")[0] * native.raw("stem")).flatten(1).sum(1)
    with open_recording(
        model, IMAGES.double(), Requirements("stem", gates="frozen", tape=True)
    ) as frozen:
        total = ((frozen.logits.detach() - constant_part(frozen, "stem")) * seed).sum(1)
        held = (frozen.gradients(seed, "stem")[0] * frozen.raw("stem")).flatten(1).sum(1)
    torch.testing.assert_close(held, total)
    assert float((plain - total).abs().min()) > 1e-3, "the gap is a tenth of the total"


def test_a_log_softmax_head_is_conserved_like_its_logits(
    seeded: Callable[..., Any], residual: Callable[..., float]
) -> None:
    """log_softmax takes the same number off every logit, which is held constant."""
    net = seeded(NETS["functional GELU"]).double()
    ending = nn.Sequential(net, nn.LogSoftmax(-1))
    for place in ("input", "0.stem"):
        assert residual(ending, IMAGES.double(), place) <= 1e-9


def test_gelu_written_out_has_the_gate_of_the_function(seeded: Callable[..., Any]) -> None:
    """x * (1 + erf(x / sqrt 2)) / 2 is gelu(x), so its frozen gradient is gelu's."""
    from cvx_core.models.vision_model import VisionModel
    from cvx_core.recording import Requirements

    def written_out(net: Net, x: Tensor) -> Tensor:
        return x * 0.5 * (1.0 + torch.erf(x / 2**0.5))

    found = []
    for body in (written_out, lambda net, x: F.gelu(x)):
        net = seeded(lambda body=body: Net(body)).double()
        requirements = Requirements("input", gates="frozen")
        with open_recording(VisionModel(net), IMAGES.double(), requirements) as recording:
            found += recording.gradients(torch.ones_like(recording.logits), "input")
    torch.testing.assert_close(found[0], found[1])
