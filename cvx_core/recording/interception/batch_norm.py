"""Workaround for an error in the gradient of PyTorch's batch normalization."""

from __future__ import annotations

from torch import Tensor


def in_plain_order(result: Tensor) -> Tensor:
    """Let the gradient of batch normalisation's result arrive in plain memory order.

    The backward pass of PyTorch's batch normalisation in evaluation mode is wrong on the CPU (seen
    in 2.14) for one image whose gradient has its channels innermost and C as the stride of its
    batch, as it comes from ``x.flatten(2).transpose(1, 2)``: off by as much as the gradient itself.
    """
    # A hook on the result sees the gradient before batch normalization's own backward pass does.
    if result.requires_grad:
        result.register_hook(_in_plain_order)  # type: ignore[no-untyped-call]
    return result


def _in_plain_order(gradient: Tensor) -> Tensor:
    return gradient.contiguous() if gradient.shape[0] == 1 else gradient
