"""Attention rollout (Abnar and Zuidema 2020, arXiv:2005.00928) against products written apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
import torchvision
from cvx_location_attention.attention_rollout import rollout
from torch import Tensor, nn

from cvx_core import MethodError, VisionModel, get_explainer
from cvx_core.testing import models


def test_two_layers_by_hand() -> None:
    """One head, two tokens. A~ = (A + I) / 2, and the later layer stands on the left.

    A_1 = [[1, 0], [1, 0]]       A~_1 = [[1, 0], [1/2, 1/2]]
    A_2 = [[1/2, 1/2], [0, 1]]   A~_2 = [[3/4, 1/4], [0, 1]]
    A~_2 A~_1 = [[3/4 + 1/8, 1/8], [1/2, 1/2]]
    """
    first = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    second = torch.tensor([[[[0.5, 0.5], [0.0, 1.0]]]])
    assert rollout([first, second]).tolist() == [[[0.875, 0.125], [0.5, 0.5]]]


def test_heads_are_averaged() -> None:
    """Heads that look straight ahead and across: A = [[1/2, 1/2], [1/2, 1/2]]."""
    heads = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]])
    assert rollout([heads]).tolist() == [[[0.75, 0.25], [0.25, 0.75]]]


def test_every_row_is_a_distribution() -> None:
    """Not negative, and summing to 1, however deep."""
    generator = torch.Generator().manual_seed(0)
    layers = [
        torch.randn(2, 3, 9, 9, generator=generator, dtype=torch.float64).mul(4).softmax(-1)
        for _ in range(12)
    ]
    joint = rollout(layers)
    assert joint.min() >= 0
    # twelve products of rows of nine in float64
    torch.testing.assert_close(
        joint.sum(-1), torch.ones(2, 9, dtype=torch.float64), atol=1e-13, rtol=0
    )


def rolled(attentions: list[Tensor]) -> np.ndarray:
    """Multiply mean-over-heads attention with its residual, (B, N, N), in numpy."""
    joint = np.eye(attentions[0].shape[-1])
    for one in attentions:
        mean = one.detach().double().numpy().mean(axis=1)
        joint = (0.5 * mean + 0.5 * np.eye(mean.shape[-1])) @ joint
    return joint


def of_timm(net: nn.Module, batch: Tensor) -> list[Tensor]:
    """Return the attention that timm's blocks hand to their dropout when they don't fuse it."""
    kept: list[Tensor] = []
    handles = []
    for block in net.blocks:
        block.attn.fused_attn = False
        handles.append(
            block.attn.attn_drop.register_forward_hook(lambda _m, args, _o: kept.append(args[0]))
        )
    with torch.no_grad():
        net(batch)
    for block, handle in zip(net.blocks, handles, strict=True):
        handle.remove()
        block.attn.fused_attn = True
    return kept


def of_multi_head(net: nn.Module, batch: Tensor) -> list[Tensor]:
    """Return softmax(q k^T / sqrt(d)) from the weights of each `nn.MultiheadAttention`."""
    kept: list[Tensor] = []

    def compute(module: nn.MultiheadAttention, args: tuple[Tensor, ...]) -> None:
        x, heads = args[0], module.num_heads
        q, k, _ = (x @ module.in_proj_weight.T + module.in_proj_bias).chunk(3, dim=-1)
        q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k))
        kept.append((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1))

    attentions = [m for m in net.modules() if isinstance(m, nn.MultiheadAttention)]
    handles = [m.register_forward_pre_hook(compute) for m in attentions]
    with torch.no_grad():
        net(batch)
    for handle in handles:
        handle.remove()
    return kept


def torchvision_vit() -> nn.Module:
    """vit_b_32 on a small scale: three layers, 4 x 4 patches of 32 pixels."""
    net = torchvision.models.VisionTransformer(128, 32, 3, 4, 32, 64, num_classes=5)
    nn.init.normal_(net.heads.head.weight)  # torchvision begins with a head of zeros
    return net


def timm_vit(name: str, **config: object) -> nn.Module:
    return timm.create_model(name, num_classes=5, img_size=128, **config)


@pytest.mark.parametrize(
    ("build", "attention"),
    [
        (lambda: timm_vit("vit_tiny_patch16_224", depth=4), of_timm),
        (torchvision_vit, of_multi_head),
    ],
    ids=["timm-vit-tiny", "torchvision-vit"],
)
def test_the_class_token_s_row_of_a_vision_transformer(
    build: Callable[[], nn.Module], attention: Callable[[nn.Module, Tensor], list[Tensor]]
) -> None:
    """The row is cut into the patches' map and the class token's own share."""
    torch.manual_seed(0)
    net = build().eval()
    batch = torch.randn(2, 3, 128, 128)
    found = get_explainer("location-attention").explain(VisionModel(net), batch)
    rows = rolled(attention(net, batch))[:, 0]
    side = round((rows.shape[1] - 1) ** 0.5)
    for one, row in zip(found, rows, strict=True):
        assert one.provenance["mode"] == "rollout"
        assert one.provenance["query_token"] == "class token"
        # attention in float32, computed in another order
        np.testing.assert_allclose(one.values, row[1:].reshape(side, side), rtol=1e-4)
        assert one.evidence["other_tokens_share"] == pytest.approx(row[0], rel=1e-4)
        assert one.evidence["row_sum"] == pytest.approx(1, abs=1e-12)
        assert one.evidence["sum"] + one.evidence["other_tokens_share"] == pytest.approx(1)
        assert one.unit == "share of attention"


def test_registers_are_no_place_in_the_image_and_no_class_token() -> None:
    """Four registers stand before the patches; the prediction is the mean of the patches alone."""
    torch.manual_seed(0)
    net = timm_vit("vit_little_patch16_reg4_gap_256", depth=3).eval()
    batch = torch.randn(2, 3, 128, 128)
    found = get_explainer("location-attention").explain(VisionModel(net), batch)
    rows = rolled(of_timm(net, batch))[:, 4:].mean(1)
    for one, row in zip(found, rows, strict=True):
        assert one.provenance["query_token"] == (
            "mean of the 64 tokens that the prediction reads, of 68"
        )
        np.testing.assert_allclose(one.values, row[4:].reshape(8, 8), rtol=1e-4)
        assert one.evidence["other_tokens_share"] == pytest.approx(row[:4].sum(), rel=1e-4)


def test_a_distilled_transformer_is_read_at_both_its_tokens() -> None:
    """DeiT averages the answers of its class and its distillation token."""
    torch.manual_seed(0)
    net = timm_vit("deit_tiny_distilled_patch16_224", depth=2).eval()
    batch = torch.randn(1, 3, 128, 128)
    [one] = get_explainer("location-attention").explain(VisionModel(net), batch)
    row = rolled(of_timm(net, batch))[0, :2].mean(0)
    np.testing.assert_allclose(one.values, row[2:].reshape(8, 8), rtol=1e-4)
    assert one.provenance["query_token"] == "mean of the 2 tokens that the prediction reads, of 66"


class Weighted(nn.Module):
    """Tokens without a class token, and attention that is asked for its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.first = nn.MultiheadAttention(16, 2, batch_first=True)
        self.second = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.first(x, x, x)[0]
        x = x + self.second(x, x, x)[0]
        return self.head(self.norm(x).mean(1))


def test_attention_that_is_asked_for_its_weights_counts_too() -> None:
    """PyTorch then lays the heads of all images in one dimension; images must not mix."""
    torch.manual_seed(0)
    net = Weighted().eval()
    batch = models.inputs(3)
    found = get_explainer("location-attention").explain(VisionModel(net), batch)
    rows = rolled(of_multi_head(net, batch)).mean(1)
    for one, row in zip(found, rows, strict=True):
        assert one.provenance["query_token"] == "mean of all tokens"
        np.testing.assert_allclose(one.values, row.reshape(4, 4), rtol=1e-4)
        assert one.evidence["other_tokens_share"] == 0


def test_a_network_without_global_attention_is_not_rolled_out() -> None:
    """By name it is refused; left to itself the method takes contributions and says so."""
    model, batch = models.convolutional(), models.inputs(1)
    with pytest.raises(MethodError, match="In 0 of 0 attention layers") as caught:
        get_explainer("location-attention", mode="rollout").explain(model, batch)
    assert "mode=energy" in caught.value.hint
    [one] = get_explainer("location-attention").explain(model, batch)
    assert one.provenance["mode"] == "contributions"


def test_windows_are_not_global_attention() -> None:
    """Swin's attention ends at its windows, so contributions are shown instead."""
    torch.manual_seed(0)
    net = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=64, window_size=4, embed_dim=24, depths=(2, 2), num_heads=(2, 4), num_classes=5,
    )  # fmt: skip
    model = VisionModel(net.eval())
    [one] = get_explainer("location-attention").explain(model, torch.randn(1, 3, 64, 64))
    assert one.provenance["mode"] == "contributions"
