"""When attention is rolled out, and when that would pretend."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cvx_core import MethodError, OptionError, VisionModel, get_explainer
from cvx_core.testing import models


class _ClassAttention(nn.Module):
    """One block in which all tokens attend to all, then a class token that attends alone (CaiT)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.everyone = nn.MultiheadAttention(8, 2, batch_first=True)
        self.alone = nn.MultiheadAttention(8, 2, batch_first=True)
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.norm(tokens + self.everyone(tokens, tokens, tokens, need_weights=False)[0])
        cls = self.cls.expand(len(x), -1, -1)
        cls = cls + self.alone(cls, tokens, tokens, need_weights=False)[0]
        answer: Tensor = self.head(cls[:, 0])
        return answer


def _class_attention() -> tuple[VisionModel, Tensor]:
    torch.manual_seed(0)
    return VisionModel(_ClassAttention()), torch.randn(1, 3, 16, 16)


def test_a_network_with_other_attention_too_is_not_rolled_out_in_part() -> None:
    model, x = _class_attention()
    [one] = get_explainer("location-attention").explain(model, x)
    assert one.provenance["mode"] == "contributions"
    with pytest.raises(MethodError, match="In 1 of 2 attention layers"):
        get_explainer("location-attention", mode="rollout").explain(model, x)


def test_a_named_layer_or_power_asks_for_the_energy() -> None:
    model, x = models.tokens(), models.inputs(1)
    default, named, powered = (
        get_explainer("location-attention", **options).explain(model, x)[0]
        for options in ({}, {"layer": "blocks.0"}, {"power": 3})
    )
    assert default.provenance["mode"] == "rollout"
    assert (named.provenance["mode"], named.provenance["layer"]) == ("energy", "blocks.0")
    assert powered.provenance["mode"] == "energy"


@pytest.mark.parametrize("mode", ["rollout", "contributions"])
@pytest.mark.parametrize("options", [{"layer": "blocks.0"}, {"power": 1}])
def test_a_mode_of_its_own_layers_takes_neither_layer_nor_power(
    mode: str, options: dict[str, object]
) -> None:
    with pytest.raises(OptionError, match="no layer and no power"):
        get_explainer("location-attention", mode=mode, **options)


def test_the_energy_of_half_precision_does_not_overflow() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    with torch.no_grad():
        net[0].weight.fill_(100.0)
        net[4].weight.mul_(1e-3)
    model = VisionModel(net.half())
    [one] = get_explainer("location-attention", mode="energy").explain(
        model, torch.ones(1, 3, 4, 4)
    )
    assert one.values.max() > torch.finfo(torch.float16).max


class _TwoTowers(nn.Module):
    """A transformer for images, and one that runs on three fixed prompts in every forward pass."""

    def __init__(self, *, computed_once: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.image = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)
        self.text = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)
        self.register_buffer("prompts", torch.randn(3, 5, 8))
        self.computed_once = computed_once
        self.register_buffer("features", self.text.eval()(self.prompts).mean(1).detach())

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.image(self.patches(x).flatten(2).transpose(1, 2))
        text = self.features if self.computed_once else self.text(self.prompts).mean(1)
        logits: Tensor = tokens.mean(1) @ text.T
        return logits


@pytest.mark.parametrize("name", ["attention-rollout", "generic-attention", "legrad"])
def test_attention_that_does_not_read_the_image_does_not_count(name: str) -> None:
    """The prompts give 3 x 2 arrays of attention, which are no multiple of the 4 images'."""
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    both, image_alone = (
        get_explainer(name).explain(VisionModel(_TwoTowers(computed_once=once)), x)
        for once in (False, True)
    )
    for one, other in zip(both, image_alone, strict=True):
        assert other.values.any()
        assert abs(one.values - other.values).max() <= 1e-6 * abs(other.values).max()
        assert one.provenance["layer"] == other.provenance["layer"] == "1 attention layers"


def test_the_default_of_a_convolutional_network_needs_one_forward_pass() -> None:
    """The recording that tells that there is no attention serves the eight draws too."""
    [one] = get_explainer("location-attention").explain(models.convolutional(), models.inputs(1))
    assert (one.unit, one.additive) == ("squared logits", False)
    assert (one.evidence["forwards"], one.evidence["backwards"]) == (1, 8)
    assert (one.evidence["draws"], one.provenance["mode"]) == (8, "contributions")
    assert one.provenance["layer"] == "relu#0"
    [named] = get_explainer("location-attention", mode="contributions").explain(
        models.convolutional(), models.inputs(1)
    )
    assert (one.values == named.values).all()


def test_the_default_of_a_transformer_is_its_rollout() -> None:
    [one] = get_explainer("location-attention").explain(models.tokens(), models.inputs(1))
    assert (one.unit, one.additive) == ("share of attention", True)
    assert (one.evidence["forwards"], one.evidence["backwards"]) == (1, 0)
    assert one.provenance["mode"] == "rollout"
