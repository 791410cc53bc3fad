"""AttnLRP's propositions by hand, and what becomes of relevance in an attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cvx_activation_error.lrp.relevance import Relevance
from torch import Tensor, nn

from cvx_core import ClassScore, Explanation, Requirements, VisionModel, get_explainer
from cvx_core.recording.conservation import relevance
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.testing import models


class Function(nn.Module):
    """A function of two pixels; the second class is zero."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.one = function, nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        z = self.function(x.flatten(1) * self.one)[:, None]
        return torch.cat([z, torch.zeros_like(z)], 1)


def of(function: Any, pixels: list[float], name: str = "attn-lrp") -> Explanation:
    x = torch.tensor(pixels, dtype=torch.float64).reshape(1, 1, 1, -1)
    model = VisionModel(Function(function))
    [one] = get_explainer(name, gamma=0.0, convolution_gamma=0.0).explain(model, x, ClassScore(0))
    return one


def test_softmax_as_in_proposition_3_1() -> None:
    """R_i = x_i (R_i - s_i sum_j R_j), R_j = v_j s_j for a prediction sum_j v_j s_j."""
    x, v = [1.0, -0.5], [3.0, 2.0]
    e = [math.exp(a) for a in x]
    s = [a / sum(e) for a in e]
    relevance = [a * b for a, b in zip(v, s, strict=True)]
    expected = [a * (r - p * sum(relevance)) for a, r, p in zip(x, relevance, s, strict=True)]
    weights = torch.tensor(v, dtype=torch.float64)
    found = of(lambda t: (t.softmax(-1) * weights).sum(-1), x)
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-6)
    # Softmax is no linear function, and keeps what its Taylor expansion has as a constant.
    assert found.evidence["absorbed"] == pytest.approx(sum(relevance) - sum(expected), rel=1e-6)


def test_a_product_as_in_proposition_3_3() -> None:
    """Half of 3 * 4 to each factor."""
    found = of(lambda t: t[:, 0] * t[:, 1], [3.0, 4.0])
    np.testing.assert_allclose(found.values[0], [6, 6], rtol=1e-6)


def test_a_matrix_product_as_in_proposition_3_3() -> None:
    """sum_k a_k b_k of a = (1, 2), b = (3, -4): half of 3 and half of -8 to either factor."""
    found = of(lambda t: torch.bmm(t[:, None, :2], t[:, 2:, None])[:, 0, 0], [1.0, 2.0, 3.0, -4.0])
    np.testing.assert_allclose(found.values[0], [1.5, -4, 1.5, -4], rtol=1e-6)


def test_layer_normalisation_as_in_proposition_3_4() -> None:
    """(5, 1, 0): mean 2, variance 14/3 held; y_1 = (5 - 2)/d: 5 * (1 - 1/3)/d and -1/3 * 1/d."""
    d = math.sqrt(14 / 3 + 1e-5)
    found = of(lambda t: F.layer_norm(t, (3,))[:, 0], [5.0, 1.0, 0.0])
    np.testing.assert_allclose(found.values[0], [10 / 3 / d, -1 / 3 / d, 0], rtol=1e-6)
    assert found.evidence["absorbed"] == pytest.approx(0, abs=1e-6), "3 / d of 3 / d"


def test_with_the_attention_held_and_no_biases_nothing_is_absorbed() -> None:
    """Values, products and sums hand on all that they get (conservation; Ali 2022, eq. 9)."""
    found = of(lambda t: (t @ t.new_tensor([[1.0], [2.0], [-1.0]]))[:, 0], [5.0, 1.0, 2.0])
    assert found.evidence["total"] == pytest.approx(5 + 2 - 2)
    assert found.evidence["absorbed"] == pytest.approx(0, abs=1e-5)
    held = get_explainer("cp-lrp").explain(attention("written"), TOKENS, ClassScore(0))[0]
    assert held.evidence["absorbed"] == pytest.approx(0, abs=1e-5)


class Attention(nn.Module):
    """One head over three tokens of two numbers; the prediction reads the first token."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.qkv = nn.Linear(2, 6, bias=False, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).chunk(3, -1)
        if self.kind == "fused":
            return F.scaled_dot_product_attention(q, k, v)[:, 0]
        scores = q @ k.transpose(-2, -1) / math.sqrt(2)
        return (scores.softmax(-1) @ v)[:, 0]


def attention(kind: str) -> VisionModel:
    torch.manual_seed(0)
    return VisionModel(Attention(kind).eval())


TOKENS = torch.tensor([[1.0, -1.0, 2.0], [0.5, 1.5, -1.0]]).double().reshape(1, 2, 1, 3)


@pytest.mark.parametrize("method", ["attn-lrp", "cp-lrp"])
def test_fused_attention_is_as_attention_written_out(method: str) -> None:
    fused, written = (
        get_explainer(method).explain(attention(kind), TOKENS, ClassScore(1))[0]
        for kind in ("fused", "written")
    )
    np.testing.assert_allclose(fused.values, written.values, rtol=1e-6)


def test_a_quarter_goes_through_queries_and_keys_each() -> None:
    """The output o = sum_j s_j v_j; half of it to s and half to v (3.3); s to the scores (3.1); of
    these half to q and half to k (3.3). By the definitions, with matrices written out."""
    model = attention("fused")
    x = TOKENS[0, :, 0].T
    w = model.module.qkv.weight.detach()
    q, k, v = (x @ part.T for part in w.chunk(3))
    scores = q @ k.T / math.sqrt(2)
    s = scores.softmax(-1)
    share = s[0] * v[:, 1]  # what each key adds to the prediction
    at_scores = scores[0] * (share / 2 - s[0] * share.sum() / 2)
    at_q = torch.stack(
        [q[0] * k[j] / math.sqrt(2) / scores[0, j] * at_scores[j] / 2 for j in range(3)]
    )
    wq, wk, wv = w.chunk(3)
    relevance = torch.zeros(3, 2, dtype=torch.float64)
    relevance[0] += ((x[0] * wq) / q[0][:, None] * at_q.sum(0)[:, None]).sum(0)
    for j in range(3):
        relevance[j] += ((x[j] * wk) / k[j][:, None] * at_q[j][:, None]).sum(0)
        relevance[j] += (x[j] * wv[1]) / v[j, 1] * share[j] / 2
    [one] = get_explainer("attn-lrp", gamma=0.0).explain(model, TOKENS, ClassScore(1))
    np.testing.assert_allclose(one.values[0], relevance.sum(1), rtol=2e-5)  # epsilon is 1e-6


def test_held_attention_gives_all_to_the_values() -> None:
    """CP-LRP: R_j = s_j v_j, from x_j through the values' weights alone."""
    model = attention("fused")
    x, w = TOKENS[0, :, 0].T, model.module.qkv.weight.detach()
    q, k, v = (x @ part.T for part in w.chunk(3))
    expected = (q @ k.T / math.sqrt(2)).softmax(-1)[0] * v[:, 1]
    [one] = get_explainer("cp-lrp").explain(model, TOKENS, ClassScore(1))
    np.testing.assert_allclose(one.values[0], expected, rtol=2e-5)
    assert one.evidence["absorbed"] == pytest.approx(0, abs=1e-5)


def test_without_damping_held_attention_is_activation_error() -> None:
    """Epsilon zero, frozen gates: gradient times activation of the frozen network."""
    model, batch = models.tokens().to(dtype=torch.float64), models.inputs(2)
    frozen = get_explainer("activation-error", layer="input", rule="frozen").explain(
        model, batch, ClassScore(1)
    )
    with open_recording(
        model, batch.double(), Requirements("input", gates=Relevance())
    ) as recording:
        seed = torch.zeros_like(recording.logits)
        seed[:, 1] = 1
        found = relevance(recording, seed, "input").sum(1)
    for one, other in zip(found, frozen, strict=True):
        scale = np.abs(other.values).max()
        np.testing.assert_allclose(one.numpy(), other.values, rtol=0, atol=1e-3 * scale)


def test_gamma_is_that_of_the_paper_s_rule() -> None:
    """y = 3 x_1 - x_2 at (1, 2): with gamma 1 the positive part 3 counts twice: (6, -2) / 4."""
    x = torch.tensor([1.0, 2.0], dtype=torch.float64).reshape(1, 1, 1, 2)

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2, bias=False, dtype=torch.float64)
            self.linear.weight = nn.Parameter(torch.tensor([[3.0, -1.0], [0.0, 1.0]]).double())

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.flatten(1))

    [one] = get_explainer("attn-lrp", gamma=1.0).explain(VisionModel(Line()), x, ClassScore(0))
    np.testing.assert_allclose(one.values[0], [6 / 4, -2 / 4], rtol=1e-6)
