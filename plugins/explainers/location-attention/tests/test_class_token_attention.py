"""Attention of the class token against the weights of the network itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvx_core import MethodError, OptionError, VisionModel, get_explainer
from cvx_core.testing import models


def test_it_is_the_class_token_s_row_of_a_timm_transformer() -> None:
    """softmax(q k^T / sqrt(d)) of the last block, from its own weights: 4 x 4 patches, 3 heads."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    options = {"img_size": 64, "depth": 2, "num_classes": 5}
    net = timm.create_model("vit_tiny_patch16_224", **options).eval().double()
    seen: list[Tensor] = []
    handle = net.blocks[1].attn.qkv.register_forward_hook(lambda *found: seen.append(found[2]))
    x = torch.randn(2, 3, 64, 64).double()
    with torch.no_grad():
        net(x)
    handle.remove()
    query, key, _ = seen[0].reshape(2, 17, 3, 3, 64).permute(2, 0, 3, 1, 4)
    expected = (query @ key.mT / 8).softmax(-1)[:, :, 0, 1:].reshape(2, 3, 4, 4).numpy()
    model = VisionModel(net)
    for i, one in enumerate(get_explainer("class-token-attention").explain(model, x)):
        np.testing.assert_allclose(one.values, expected[i].mean(0), rtol=1e-6)
        shares = one.evidence["sum"] + one.evidence["other_tokens_share"]
        assert shares == pytest.approx(1, abs=1e-6)
    for head in range(3):
        one, _ = get_explainer("class-token-attention", head=head).explain(model, x)
        np.testing.assert_allclose(one.values, expected[0, head], rtol=1e-6)
    with pytest.raises(OptionError, match="head must be less than 3"):
        get_explainer("class-token-attention", head=3).explain(model, x)


def test_registers_are_left_out() -> None:
    """DINOv2 returns its own attention: the class token, four registers, 4 x 4 patches."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8,
        num_register_tokens=4, num_labels=3, attn_implementation="eager",
    )  # fmt: skip
    net = transformers.Dinov2WithRegistersForImageClassification(config).eval()
    for parameter in net.parameters():  # so that attention is not nearly uniform
        parameter.data.mul_(4 if parameter.ndim > 1 else 1)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        last = net(x, output_attentions=True).attentions[-1]
    assert last.shape == (1, 2, 21, 21)
    for head, expected in ((None, last[0, :, 0, 5:].mean(0)), (1, last[0, 1, 0, 5:])):
        [one] = get_explainer("class-token-attention", head=head).explain(VisionModel(net), x)
        np.testing.assert_allclose(one.values, expected.reshape(4, 4).numpy(), rtol=1e-4)
    assert one.provenance["query_token"] == "token 0 of 21"


class Pooling(nn.Module):
    """Patches that a class token of its own, or the mean, reads behind one block."""

    def __init__(self, reading: str) -> None:
        super().__init__()
        self.reading = reading
        self.patches, self.norm = nn.Conv2d(3, 8, 4, stride=4), nn.LayerNorm(8)
        self.everyone, self.alone = (
            nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2)
        )
        self.register = nn.Parameter(torch.randn(1, 1, 8))
        self.query, self.head = nn.Parameter(torch.randn(1, 1, 8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        if self.reading == "patches":
            tokens = torch.cat([self.register.expand(len(x), -1, -1), tokens], 1)
        tokens = self.norm(tokens + self.everyone(tokens, tokens, tokens, need_weights=False)[0])
        if self.reading == "patches":
            return self.head(tokens[:, 1:].mean(1))
        query = self.query.expand(len(x), -1, -1)
        return self.head(self.alone(query, tokens, tokens, need_weights=False)[0][:, 0])


def test_a_query_that_pools_the_patches_is_a_class_token() -> None:
    torch.manual_seed(0)
    net, x = Pooling("query").eval(), torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        tokens = net.patches(x).flatten(2).transpose(1, 2)
        tokens = net.norm(tokens + net.everyone(tokens, tokens, tokens)[0])
        _, expected = net.alone(net.query, tokens, tokens)  # the mean over heads
    [one] = get_explainer("class-token-attention").explain(VisionModel(net), x)
    np.testing.assert_allclose(one.values, expected.reshape(4, 4).numpy(), rtol=1e-5)


@pytest.mark.parametrize("net", [lambda: Pooling("patches"), lambda: models.convolutional().module])
def test_networks_without_a_class_token_are_refused(net: type[nn.Module]) -> None:
    """A register, which nothing reads, is no class token."""
    x = torch.randn(1, 3, 16, 16)
    with pytest.raises(MethodError, match=r"no class token|no attention layer"):
        get_explainer("class-token-attention").explain(VisionModel(net()), x)


class TwoTowers(nn.Module):
    """A transformer of images whose output is compared with the tokens of three fixed texts."""

    def __init__(self) -> None:
        super().__init__()
        self.image = models.tokens().module
        self.texts, self.proj = nn.Parameter(torch.randn(3, 17, 8)), nn.Linear(5, 8)
        self.text = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        texts = self.text(self.texts, self.texts, self.texts, need_weights=False)[0]
        return self.proj(self.image(x)) @ texts.mean(1).T


@pytest.mark.parametrize("method", ["attention-rollout", "generic-attention", "legrad"])
def test_the_attention_among_texts_has_no_part(method: str) -> None:
    torch.manual_seed(0)
    net, x = TwoTowers().eval(), models.inputs(2)
    one, _ = get_explainer(method).explain(VisionModel(net), x)
    [plain] = get_explainer(method).explain(VisionModel(net.image), x[:1])
    if method == "attention-rollout":
        np.testing.assert_allclose(one.values, plain.values, rtol=1e-5)
    assert one.provenance["layer"] == plain.provenance["layer"]
    assert one.values.any()
