"""The rescale rule, function by function: contributions sum to S(x) - S(x0)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from cvx_activation_error.deep_lift.propagation import Rescale
from cvx_activation_error.deep_lift.rules import RESCALED
from torch import Tensor, nn

from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.conservation import relevance
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.recording.rules.table import FROZEN_GATES

Function = Callable[[Tensor], Tensor]


def rows(x: Tensor) -> Tensor:
    """Channels as rows of 36 values."""
    return x.flatten(2)


def heads(x: Tensor) -> Tensor:
    """Four heads of nine tokens."""
    return x.flatten(2).unflatten(2, (9, 4))


def attend(x: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Attention of tokens to themselves."""
    tokens = heads(x)
    return F.scaled_dot_product_attention(tokens, tokens, tokens, mask, is_causal=causal)


EXACT: dict[str, Function] = {
    "maximum": lambda x: torch.maximum(x[:, :2], x[:, 2:]),
    "minimum": lambda x: torch.minimum(x[:, :2], 0.5 * x[:, 2:]),
    "fmax and fmin": lambda x: torch.fmax(x[:, :2], x[:, 2:]) * torch.fmin(x[:, :2], x[:, 2:]),
    "max of two": lambda x: torch.max(x[:, :2], x[:, 2:]),
    "max along": lambda x: x.max(1).values + x.min(dim=1, keepdim=True).values[:, 0],
    "max of all": lambda x: x * x.max(),
    "amax": lambda x: rows(x).amax((1, 2), keepdim=True) - rows(x).amin(dim=1),
    "bounds of its own": lambda x: x.clamp(-x.mean(1, keepdim=True).abs(), x.abs().mean()),
    "clamp_max": lambda x: x.clamp_max(x.mean(1, keepdim=True)),
    "matmul": lambda x: rows(x) @ rows(x).transpose(1, 2),
    "einsum": lambda x: torch.einsum("bcn,bdn->bcd", rows(x), rows(x)),
    "tensordot": lambda x: torch.tensordot(rows(x), rows(x), dims=([1, 2], [1, 2])),
    "inner": lambda x: torch.inner(rows(x), rows(x)[0]).mean(2),
    "outer": lambda x: torch.outer(x.mean((1, 2, 3)), x.mean((2, 3)).flatten()),
    "kron": lambda x: torch.kron(x.mean((2, 3)), x.mean((2, 3))[:1]),
    "vecdot": lambda x: torch.linalg.vecdot(rows(x), rows(x).flip(1)),
    "addcmul": lambda x: torch.addcmul(x, x, x.flip(1), value=0.5),
    "addmm": lambda x: torch.addmm(x[:, 0, 0], x[:, 1, 0], x[0, 2], beta=2, alpha=0.5),
    "baddbmm": lambda x: torch.baddbmm(x[:, 0], x[:, 1], x[:, 2], beta=0.3),
    "addbmm": lambda x: torch.addbmm(x[0, 0], x[:, 1], x[:, 2])[None].expand(2, -1, -1),
    "a kernel of its own": lambda x: F.conv2d(x, x[:1, :, :3, :3]),
    "a transposed one": lambda x: F.conv_transpose2d(x, x[:1, :, :2, :2].transpose(0, 1)),
    "var": lambda x: x.var((2, 3)) + x.var(1, correction=0).mean((1, 2))[:, None],
    "std": lambda x: x.std(dim=(2, 3), keepdim=True) * x,
    "var_mean": lambda x: torch.cat(torch.var_mean(x, (2, 3)), 1),
    "std_mean": lambda x: torch.cat(torch.std_mean(x, dim=(2, 3)), 1),
    "norm": lambda x: x / (1 + x.norm(dim=1, keepdim=True)),
    "vector norm": lambda x: torch.linalg.vector_norm(x, dim=(2, 3)),
    "norm of all": lambda x: x / torch.linalg.norm(x),
    "normalize": lambda x: F.normalize(x, dim=1),
    "cosine": lambda x: F.cosine_similarity(x[:, :2], x[:, 2:], dim=1),
    "logsumexp": lambda x: torch.logsumexp(x, (2, 3)) + x.logsumexp(1, keepdim=True).mean((2, 3)),
    "log_softmax": lambda x: x.log_softmax(1),
    "instance norm": lambda x: F.instance_norm(x, weight=torch.arange(4.0).to(x)),
    "group norm": lambda x: F.group_norm(x, 2, torch.arange(4.0).to(x), torch.ones(4).to(x)),
    "layer norm": lambda x: F.layer_norm(x, (6,)),
    "rms norm": lambda x: F.rms_norm(x, (6,)),
    "normalised by the batch": lambda x: F.batch_norm(x, None, None, training=True),
    "rrelu": F.rrelu,
    "round": lambda x: x + (3 * x).round() + x.floor() - x.ceil() + x.sign(),
    "glu": lambda x: F.glu(x, 1),
    "attention": attend,
    "causal": lambda x: attend(x, causal=True),
    "shared heads": lambda x: F.scaled_dot_product_attention(
        heads(x), heads(x)[:, :2], heads(x)[:, 2:], enable_gqa=True
    ),
    "a mask of its own": lambda x: attend(x, heads(x)[..., :1]),
}


class Between(nn.Module):
    """A function between a convolution and a projection of whatever it returns."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.first = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.function(self.first(x)).flatten(1)
        generator = torch.Generator().manual_seed(5)
        weights = torch.randn(features.shape[1], 3, generator=generator, dtype=x.dtype)
        return features @ weights + 0.3


def between(function: Function) -> VisionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return VisionModel(Between(function).double().eval())


def missing(model: VisionModel) -> tuple[float, float]:
    """Return by how much the contributions of a batch miss its total, and the total."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)
    with open_recording(model, x, Requirements("input", gates=Rescale("mean"))) as recording:
        torch.testing.assert_close(recording.logits.detach(), model.logits(x))
        seed = torch.randn(2, 3, generator=generator, dtype=torch.float64)
        assert recording.baseline_logits is not None
        total = float((seed * (recording.logits.detach() - recording.baseline_logits)).sum())
        return abs(float(relevance(recording, seed, "input").sum()) - total), abs(total)


@pytest.mark.parametrize("name", EXACT)
def test_contributions_sum_to_the_difference(name: str) -> None:
    """In float64; secants of steps near 1e-6 leave some 1e-10."""
    gap, total = missing(between(EXACT[name]))
    assert total > 1e-3, "the function must change something"
    assert gap < 1e-8 * max(total, 1)


_DECIDING = (
    "sort topk median kthvalue cummax cummin linalg_matrix_norm "
    "lt gt le ge eq ne greater less greater_equal less_equal "
    "argmax argmin argsort bucketize searchsorted isnan isinf"
)
_RECURRENT = "lstm gru rnn_tanh rnn_relu"
_SAMPLING = (
    "grid_sampler grid_sampler_2d grid_sampler_3d deform_conv2d "
    "roi_align roi_pool ps_roi_align ps_roi_pool"
)
OWN_DERIVATIVE = frozenset(f"{_DECIDING} {_RECURRENT} {_SAMPLING}".split())
"""Functions that keep their own derivative at the image: sorting, comparisons, recurrent layers,
sampling at computed places.

What they would make of the baseline otherwise is missing from the sum.
"""


def test_every_function_with_a_rule_is_rescaled_or_listed_as_keeping_its_derivative() -> None:
    assert set(FROZEN_GATES) <= set(RESCALED) | OWN_DERIVATIVE
    assert not set(RESCALED) & OWN_DERIVATIVE


def test_what_keeps_its_derivative_is_missing_from_the_sum() -> None:
    """A value is sorted to its position in the image, not to that in the baseline."""
    gap, total = missing(between(lambda x: x.flatten(2).sort(2).values))
    assert gap > 0.01 * total
