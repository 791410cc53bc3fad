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


def attention_probabilities(
    query: Tensor,
    key: Tensor,
    _value: Tensor,
    attn_mask: Tensor | None = None,
    _dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return the probabilities with which `F.scaled_dot_product_attention` weights the values."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query @ key.transpose(-2, -1) * (scale or 1 / math.sqrt(query.shape[-1]))
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, float("-inf"))
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        else:
            scores = scores + attn_mask
    return scores.softmax(-1)


def pass_attention(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], attended: Callable[[Tensor], Tensor]
) -> Any:
    """Compute an attention with its probabilities handed through `attended`.

    Only where every token attends to every other: an array (..., N, N), N > 1. Other softmaxes
    run as they are.
    """
    # Fused attention never forms its probabilities, so that it is computed in two steps instead.
    if func.__name__ == "softmax":
        found = func(*args, **kwargs)
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        return attended(found) if dim in (-1, found.ndim - 1) and _all_to_all(found) else found
    call = Call("scaled_dot_product_attention", func, args, kwargs, None)
    query, key = argument(call, 0, "query"), argument(call, 1, "key")
    if query.shape[-2] != key.shape[-2] or query.shape[-2] < 2:
        return call.native()
    value, grouped = argument(call, 2, "value"), argument(call, 7, "enable_gqa", False)
    if grouped:
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    probabilities = attention_probabilities(
        query,
        key,
        value,
        attn_mask=argument(call, 3, "attn_mask"),
        is_causal=argument(call, 5, "is_causal", False),
        scale=argument(call, 6, "scale"),
        enable_gqa=grouped,
    )
    return attended(probabilities) @ value


def _all_to_all(found: Any) -> bool:
    return (
        isinstance(found, Tensor)
        and found.ndim >= 3
        and 1 < found.shape[-2] == found.shape[-1]
        and found.is_floating_point()
    )
