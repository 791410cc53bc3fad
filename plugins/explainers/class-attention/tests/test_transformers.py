"""Chefer's and Bousselham's attention against plain implementations on an explicit transformer."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core import ClassScore, Contrast, MethodError, VisionModel, get_explainer
from cvx_core.testing import models

ModelOutput = Literal["class token", "mean of patches", "mean of all"]
WIDTH, HEADS = 12, 3


class Block(nn.Module):
    """Attention written out, which keeps its probabilities and their gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 24), nn.Linear(24, WIDTH)
        self.kept: Tensor | None = None
        self.keeping = False

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, HEADS, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        probabilities = (query @ key.transpose(-2, -1) / 2.0).softmax(-1)
        if self.keeping:
            self.kept = probabilities
            probabilities.retain_grad()
        mixed = (probabilities @ value).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Explicit(nn.Module):
    """Three blocks on a class token and 4 x 4 patches; the answer reads some of the tokens."""

    def __init__(self, reading: ModelOutput) -> None:
        super().__init__()
        self.reading = reading
        self.patches = nn.Conv2d(3, WIDTH, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.position = nn.Parameter(torch.randn(1, 17, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def read(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        if self.reading == "class token":
            return self.head(x[:, 0])
        return self.head(x.mean(1) if self.reading == "mean of all" else x[:, 1:].mean(1))

    def tokens(self, x: Tensor) -> list[Tensor]:
        x = self.patches(x).flatten(2).transpose(1, 2)
        states = [torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position]
        for block in self.blocks:
            states.append(block(states[-1]))
        return states[1:]

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.tokens(x)[-1])


def build(reading: ModelOutput) -> VisionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Explicit(reading)
        for parameter in net.blocks.parameters():  # so that attention is not nearly uniform
            parameter.data.mul_(2)
    return VisionModel(net.double().eval(), name=f"explicit, {reading}")


READINGS: tuple[ModelOutput, ...] = ("class token", "mean of patches", "mean of all")


@pytest.mark.parametrize("reading", READINGS)
def test_generic_attention_is_chefer_s(reading: ModelOutput) -> None:
    """R = I; R <- R + E_h[max(dS/dA * A, 0)] R, by gradients that the network itself retains."""
    model, x = build(reading), models.inputs(1).double()
    net: Explicit = model.module  # type: ignore[assignment]
    for block in net.blocks:
        block.keeping = True
    scores = net(x)
    (scores[0, 2] - scores[0, 0]).backward()
    relevance = torch.eye(17, dtype=torch.float64)
    for block in net.blocks:
        block.keeping = False
        a, g = block.kept[0].detach(), block.kept.grad[0]
        relevance = relevance + (a * g).clamp_min(0).mean(0) @ relevance
    net.zero_grad()
    relevance = relevance - torch.eye(17, dtype=torch.float64)
    rows = {"class token": slice(0, 1), "mean of patches": slice(1, 17), "mean of all": slice(17)}
    expected = relevance[rows[reading]].mean(0)
    [one] = get_explainer("generic-attention").explain(model, x, Contrast(2, 0))
    patches = expected[1:].reshape(4, 4).numpy()
    np.testing.assert_allclose(one.values, patches, atol=1e-6 * patches.max())
    assert one.evidence["other_tokens"] == pytest.approx(float(expected[0]), rel=1e-9)
    assert one.provenance["layer"] == "3 attention layers"
    assert one.provenance["query_tokens"] == {"class token": 1, "mean of patches": 16}.get(
        reading, 17
    )


@pytest.mark.parametrize("reading", READINGS)
def test_legrad_is_bousselham_s(reading: ModelOutput) -> None:
    """The mean over layers, heads and queries of max(dS_l/dA_l, 0), S_l read from layer l."""
    model, x = build(reading), models.inputs(1).double()
    net: Explicit = model.module  # type: ignore[assignment]
    for block in net.blocks:
        block.keeping = True
    states = net.tokens(x)
    maps = []
    for block, state in zip(net.blocks, states, strict=True):
        score = net.read(state)[0, 3]
        [gradient] = torch.autograd.grad(score, [block.kept], retain_graph=True)
        maps.append(gradient[0].clamp_min(0).mean((0, 1)))
        block.keeping = False
    expected = torch.stack(maps).mean(0)
    [one] = get_explainer("legrad").explain(model, x, ClassScore(3))
    patches = expected[1:].reshape(4, 4).numpy()
    np.testing.assert_allclose(one.values, patches, atol=1e-6 * patches.max())
    assert one.evidence["other_tokens"] == pytest.approx(float(expected[0]), rel=1e-9)
    assert one.evidence["forwards"] == 4, "one for the image and one head for each layer"
    assert one.provenance["head"] == "what follows blocks.2"


class Merging(nn.Module):
    """A block on 8 x 8 tokens of half the width, which then become the 4 x 4 of `Explicit`."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Conv2d(3, 6, 4, stride=4)
        self.first, self.merge = Small(), nn.Conv2d(6, 3, 2, stride=2)
        self.rest = build("mean of all").module

    def begin(self, x: Tensor) -> Tensor:
        x = self.early(x).flatten(2).transpose(1, 2)
        x = self.merge(self.first(x).transpose(1, 2).unflatten(2, (8, 8)))
        return F.interpolate(x, scale_factor=8.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.begin(x))


class Small(nn.Module):
    """One head of attention among tokens of width 6."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x @ x.transpose(-2, -1)).softmax(-1) @ x


def test_legrad_leaves_out_blocks_whose_tokens_are_others_than_the_head_reads() -> None:
    """As if the network began behind them."""
    torch.manual_seed(0)
    net, x = Merging().double().eval(), models.inputs(1).double()
    [one] = get_explainer("legrad").explain(VisionModel(net), x, ClassScore(3))
    [rest] = get_explainer("legrad").explain(VisionModel(net.rest), net.begin(x), ClassScore(3))
    np.testing.assert_allclose(one.values, rest.values, rtol=1e-6)
    assert one.provenance["layer"] == "3 of 4 attention layers"
    assert one.evidence["attention_layers_left_out"] == 1


def test_generic_attention_counts_the_layers_before_its_tokens() -> None:
    torch.manual_seed(0)
    net, x = Merging().double().eval(), models.inputs(1).double()
    [one] = get_explainer("generic-attention").explain(VisionModel(net), x, ClassScore(3))
    assert one.provenance["layer"] == "3 of 4 attention layers"
    assert one.evidence["attention_layers_left_out"] == 1


class Pooled(nn.Module):
    """The patches of `Explicit`, and a query that pools them in an attention of its own (CaiT)."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.query = build("mean of all").module, nn.Parameter(torch.randn(1, 1, WIDTH))
        self.keys = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.net.tokens(x)[-1]
        pooling = (self.query @ self.keys(tokens).mT).softmax(-1)
        return self.net.head((pooling @ tokens)[:, 0])


def test_a_pooling_attention_behind_is_refused_or_part_of_the_head() -> None:
    """A product of layers without the last would tell another story; LeGrad's head reads it."""
    torch.manual_seed(0)
    model, x = VisionModel(Pooled().double().eval()), models.inputs(1).double()
    with pytest.raises(MethodError, match="of 1 tokens to 17 behind one of all 17") as caught:
        get_explainer("generic-attention").explain(model, x, ClassScore(3))
    assert "legrad" in caught.value.hint
    [one] = get_explainer("legrad").explain(model, x, ClassScore(3))
    assert one.values.any()
    assert one.provenance["layer"] == "3 of 4 attention layers"


class Windows(nn.Module):
    """Tokens on a grid without any attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.mix = nn.Conv2d(3, 8, 8, stride=8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.patches(x).flatten(2).transpose(1, 2)).relu().mean(1))


@pytest.mark.parametrize("name", ["generic-attention", "legrad"])
@pytest.mark.parametrize("network", [Windows, lambda: models.convolutional().module])
def test_networks_without_global_attention_are_refused(name: str, network: type[nn.Module]) -> None:
    with pytest.raises(MethodError, match="no layer in which all tokens attend") as caught:
        get_explainer(name).explain(VisionModel(network()), models.inputs(1))
    assert "grad-cam" in caught.value.hint


class Unrolled(nn.Module):
    """A transformer without modules for its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.net = build("mean of all").module.float()

    def forward(self, x: Tensor) -> Tensor:
        x = self.net.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.net.token.expand(len(x), -1, -1), x], 1) + self.net.position
        for _ in range(2):
            a = (x @ x.transpose(-2, -1)).softmax(-1)
            x = self.net.norm(x + a @ x)
        return self.net.head(x.mean(1))


def test_legrad_needs_blocks_and_says_so() -> None:
    with pytest.raises(MethodError, match="No module of the network holds one attention layer"):
        get_explainer("legrad").explain(VisionModel(Unrolled()), models.inputs(1))
    [one] = get_explainer("generic-attention").explain(VisionModel(Unrolled()), models.inputs(1))
    assert np.ptp(one.values) > 0
