"""The model's own gradient, by way of functions that can be differentiated twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from cvx_core.recording.interception.saved_tensors import Saved
from cvx_core.recording.rules.attention import attention_probabilities
from cvx_core.recording.rules.base import Passage, Propagation
from cvx_core.recording.rules.call import Call, argument

if TYPE_CHECKING:
    from cvx_core.models.vision_model import VisionModel


@dataclass(frozen=True)
class Twice(Propagation):
    """Gates for a recording that is to be pushed through.

    PyTorch has no second derivative of fused attention and of hardsigmoid: they are computed in
    steps that have one, with the same values up to rounding.
    """

    def begin(self, model: VisionModel, saved: Saved, *, at_input: bool) -> Passage:  # noqa: ARG002
        """Return the functions that are exchanged."""
        return _Exchanged()


class _Exchanged(Passage):
    def __init__(self) -> None:
        self.table: Mapping[str, Callable[[Call], Any]] = {
            "scaled_dot_product_attention": _attention,
            "hardsigmoid": _hardsigmoid,
        }


def _attention(call: Call) -> Tensor:
    query, value = argument(call, 0, "query"), argument(call, 2, "value")
    grouped = argument(call, 7, "enable_gqa", False)
    if grouped:
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    probabilities = attention_probabilities(
        query,
        argument(call, 1, "key"),
        value,
        attn_mask=argument(call, 3, "attn_mask"),
        is_causal=argument(call, 5, "is_causal", False),
        scale=argument(call, 6, "scale"),
        enable_gqa=grouped,
    )
    mixed: Tensor = probabilities @ value
    return mixed


def _hardsigmoid(call: Call) -> Tensor:
    return F.hardtanh(argument(call, 0, "input") / 6 + 0.5, 0.0, 1.0)
