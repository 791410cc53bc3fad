"""Scaled dot-product attention with frozen probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cvx_core.recording.rules.call import Call, argument


def scaled_dot_product_attention(call: Call) -> Any:
    """Freeze the probabilities: values take a gradient; queries, keys and mask don't."""
    names = ("query", "key", "value", "attn_mask")
    query, key, value, mask = (argument(call, k, name) for k, name in enumerate(names))
    kwargs = {k: v for k, v in call.kwargs.items() if k not in names}
    if call.replaying:
        query, key, mask = call.take()
    else:
        query, key = query.detach(), key.detach()
        # A mask may be computed from the image, as relative positions times queries are.
        mask = None if mask is None else mask.detach()
        call.put((query, key, mask))
    return call.run(query, key, value, mask, *call.args[4:], **kwargs)


def attention_probabilities(call: Call) -> Tensor:
    """Return the probabilities with which `F.scaled_dot_product_attention` weights the values."""
    query, key = argument(call, 0, "query"), argument(call, 1, "key")
    if argument(call, 7, "enable_gqa", False):
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scale = argument(call, 6, "scale") or 1 / math.sqrt(query.shape[-1])
    scores: Tensor = query @ key.transpose(-2, -1) * scale
    if argument(call, 5, "is_causal", False):
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, float("-inf"))
    mask = argument(call, 3, "attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    return scores.softmax(-1)


def attention_in_steps(call: Call, attended: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Compute an attention as the product of its probabilities, handed through `attended`, with
    the values; fused attention never forms them."""
    probabilities = attention_probabilities(call)
    query, value = argument(call, 0, "query"), argument(call, 2, "value")
    if argument(call, 7, "enable_gqa", False):
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    found: Tensor = (probabilities if attended is None else attended(probabilities)) @ value
    return found


def pass_attention(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], attended: Callable[[Tensor], Tensor]
) -> Any:
    """Compute an attention with its probabilities handed through `attended`.

    Only where every token attends to every other: an array (..., N, N), N > 1. Other softmaxes
    run as they are.
    """
    if func.__name__ == "softmax":
        found = func(*args, **kwargs)
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        return attended(found) if dim in (-1, found.ndim - 1) and _all_to_all(found) else found
    call = Call("scaled_dot_product_attention", func, args, kwargs, None)
    query, key = argument(call, 0, "query"), argument(call, 1, "key")
    if query.shape[-2] != key.shape[-2] or query.shape[-2] < 2:
        return call.native()
    return attention_in_steps(call, attended)


def _all_to_all(found: Any) -> bool:
    return (
        isinstance(found, Tensor)
        and found.ndim >= 3
        and 1 < found.shape[-2] == found.shape[-1]
        and found.is_floating_point()
    )
