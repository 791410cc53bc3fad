"""Attention probabilities as places: their gradients, however the network computes attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cvx_core.errors import OptionError
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.attention import attention_gradients
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.testing import models

Build = Callable[[Callable[[], Any]], Any]
How = Literal["sdpa", "by hand", "module", "module with weights", "grouped", "checkpoint"]
WAYS: tuple[How, ...] = (
    "sdpa", "by hand", "module", "module with weights", "grouped", "checkpoint",
)  # fmt: skip
WIDTH, HEADS = 8, 2


class Attending(nn.Module):
    """Two attentions one after the other; the answer is the mean token."""

    def __init__(self, how: How) -> None:
        super().__init__()
        self.how = how
        self.patches = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.layers = nn.ModuleList(
            nn.MultiheadAttention(WIDTH, HEADS, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(WIDTH, 3)
        self.given: list[Tensor] | None = None

    def attend(self, layer: nn.MultiheadAttention, x: Tensor, k: int) -> Tensor:
        if self.how.startswith("module") and self.given is None:
            mixed: Tensor = layer(x, x, x, need_weights=self.how.endswith("weights"))[0]
            return mixed
        qkv = F.linear(x, layer.in_proj_weight, layer.in_proj_bias)
        query, key, value = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        if self.how == "grouped":  # one head of keys and values for both of the queries
            key, value = key[:, :1], value[:, :1]
        if self.given is not None:
            one = value.expand(-1, HEADS, -1, -1)
            mixed = self.given[k] @ one
        elif self.how in ("by hand", "checkpoint"):
            scores = query @ key.transpose(-2, -1) / (WIDTH // HEADS) ** 0.5
            mixed = scores.softmax(dim=-1) @ value
        else:
            grouped = self.how == "grouped"
            mixed = F.scaled_dot_product_attention(query, key, value, enable_gqa=grouped)
        return layer.out_proj(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for k, layer in enumerate(self.layers):
            if self.how == "checkpoint":
                x = x + checkpoint(self.attend, layer, x, k, use_reentrant=False)
            else:
                x = x + self.attend(layer, x, k)
        return self.head(x.mean(1))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("how", WAYS)
def test_the_gradient_of_every_attention_is_that_of_finite_differences(
    how: How, x: Tensor, seeded: Build
) -> None:
    """An entry of A_1 is raised and lowered while A_2 answers to it as it does in the network.

    For the second attention, whose probabilities nothing follows but products, the network is
    linear in them; there the difference is exact but for rounding.
    """
    net = seeded(lambda: Attending(how)).double()
    seed = torch.tensor([[1.0, -2, 0.5], [0, 1, 1]], dtype=torch.float64)
    with open_recording(VisionModel(net), x, Requirements(attention_gradients=True)) as recording:
        pairs = attention_gradients(recording, seed)
    assert [tuple(a.shape) for a, _ in pairs] == [(2, HEADS, 4, 4)] * 2
    torch.testing.assert_close(pairs[0][0].sum(-1), torch.ones(2, HEADS, 4).double())
    step = torch.randn(2, HEADS, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    net.given = [a.clone() for a, _ in pairs]
    answers = []
    for sign in (1, -1):
        net.given[1] = pairs[1][0] + sign * 1e-3 * step
        with torch.no_grad():
            answers.append((seed * net(x)).sum())
    expected = float((answers[0] - answers[1]) / 2e-3)
    assert float((pairs[1][1] * step).sum()) == pytest.approx(expected, rel=1e-9)


def test_the_gradient_of_an_earlier_attention_counts_what_later_ones_do_with_it(
    x: Tensor, seeded: Build
) -> None:
    """The total derivative, as by autograd through a network that returns its probabilities."""
    net = seeded(lambda: Attending("by hand")).double()
    with open_recording(VisionModel(net), x, Requirements(attention_gradients=True)) as recording:
        seed = torch.ones_like(recording.logits)
        pairs = attention_gradients(recording, seed)
    layers = list(net.layers)
    first = pairs[0][0].clone().requires_grad_()
    tokens = net.patches(x).flatten(2).transpose(1, 2).detach()
    net.given = [first]
    tokens = tokens + net.attend(layers[0], tokens, 0)
    net.given = None
    tokens = tokens + net.attend(layers[1], tokens, 1)
    net.head(tokens.mean(1)).sum().backward()
    torch.testing.assert_close(pairs[0][1], first.grad, rtol=1e-10, atol=1e-14)


def test_nothing_before_the_first_attention_builds_a_graph(x: Tensor, seeded: Build) -> None:
    """Not even its values, queries and keys: the first leaf is the first array of probabilities."""
    net = seeded(lambda: Attending("by hand")).double()
    seen: list[bool] = []
    net.patches.register_forward_hook(lambda _m, _a, out: seen.append(out.requires_grad))
    net.layers[0].out_proj.register_forward_hook(
        lambda _m, args, _out: seen.append(args[0].requires_grad)
    )
    with open_recording(VisionModel(net), x, Requirements(attention_gradients=True)) as recording:
        assert recording.logits.requires_grad
    assert seen == [False, True]


def test_the_answer_is_the_network_s_own() -> None:
    """Attention written out gives what the fused function gives, but for rounding."""
    model, x = models.tokens().to(dtype=torch.float64), models.inputs().double()
    with open_recording(model, x, Requirements(attention_gradients=True)) as recording:
        torch.testing.assert_close(recording.logits, model.logits(x), rtol=1e-12, atol=1e-12)


def test_single_attentions_are_places(x: Tensor, seeded: Build) -> None:
    """What the last attention's entries do to a vector at the tokens, by name."""
    model, x = models.tokens().to(dtype=torch.float64), models.inputs().double()
    requirements = Requirements("blocks.0", attention_gradients=True)
    with open_recording(model, x, requirements) as recording:
        vector = torch.randn_like(recording.raw("blocks.0"))
        pulled = recording.pull(vector, at="blocks.0", to="attention#0")
        assert pulled.shape == recording.raw("attention#0").shape == (3, 2, 17, 17)
        assert pulled.abs().max() > 0
        later = recording.pull(vector, at="blocks.0", to="attention#1")
        assert later.abs().max() == 0, "what comes later does not act on what came before"


def test_frozen_gates_have_no_gradient_of_attention() -> None:
    with pytest.raises(OptionError, match="needs native gates"):
        Requirements(gates="frozen", attention_gradients=True)
