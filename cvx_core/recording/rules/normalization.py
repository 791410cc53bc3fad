"""Normalisation with a frozen scale; the mean is linear."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvx_core.recording.rules.autograd import Affine, Centred
from cvx_core.recording.rules.call import Call, active, argument


def _centred(
    call: Call,
    x: Tensor,
    dims: Any,
    eps: float,
    weight: Tensor | None,
    bias: Tensor | None,
    fit: tuple[int, ...] | None = None,
) -> Tensor:
    """Normalise over `dims`; `weight` and `bias`, in the shape `fit`, broadcast against x."""
    if fit is not None:
        weight, bias = (None if v is None else v.reshape(fit) for v in (weight, bias))
    if call.replaying:
        scale = call.take()
        out = (x - x.mean(dims, keepdim=True)) * scale
        out = out if weight is None else out * weight
        shifted: Tensor = out if bias is None else out + bias
        return shifted
    with torch.no_grad():
        source = x.detach()
        # As PyTorch's kernels do: a variance in half precision would lose most of its digits.
        wide = source.float() if source.dtype in (torch.float16, torch.bfloat16) else source
        scale = (wide.var(dims, unbiased=False, keepdim=True) + eps).rsqrt().to(source.dtype)
    call.put(scale)
    # Of groups, x is a view of what the function is called with.
    y: Tensor = call.native_detached().reshape(x.shape)
    result: Tensor = Centred.apply(x, y, scale, weight, dims) if active(x) else y
    return result


def layer_norm(call: Call) -> Any:
    """Freeze the deviation of layer normalisation; the mean is linear."""
    dims = tuple(range(-len(argument(call, 1, "normalized_shape")), 0))
    weight, bias = argument(call, 2, "weight"), argument(call, 3, "bias")
    return _centred(call, call.args[0], dims, argument(call, 4, "eps", 1e-5), weight, bias)


def group_norm(call: Call) -> Any:
    """Freeze the deviation of each group of group normalisation."""
    x, groups = call.args[0], argument(call, 1, "num_groups")
    weight, bias = argument(call, 2, "weight"), argument(call, 3, "bias")
    return _grouped(call, x, groups, weight, bias, argument(call, 4, "eps", 1e-5))


def instance_norm(call: Call) -> Any:
    """Treat instance normalisation as group normalisation with one channel a group."""
    x = call.args[0]
    if not argument(call, 5, "use_input_stats", True):
        return call.native()
    weight, bias = argument(call, 1, "weight"), argument(call, 2, "bias")
    return _grouped(call, x, x.shape[1], weight, bias, argument(call, 7, "eps", 1e-5))


def _grouped(
    call: Call, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    batch, channels = x.shape[:2]
    split = (batch, groups, channels // groups, *x.shape[2:])
    fit = (1, groups, channels // groups, *([1] * (x.ndim - 2)))
    dims = tuple(range(2, x.ndim + 1))
    return _centred(call, x.reshape(split), dims, eps, weight, bias, fit).reshape(x.shape)


def batch_norm(call: Call) -> Any:
    """Freeze the deviation of batch normalisation, where it is that of the batch."""
    x = call.args[0]
    # With running statistics, as in evaluation mode, it is affine already.
    if not argument(call, 5, "training", False):
        return call.native()
    fit = (1, -1, *([1] * (x.ndim - 2)))
    weight, bias = argument(call, 1, "weight"), argument(call, 2, "bias")
    dims, eps = (0, *range(2, x.ndim)), argument(call, 7, "eps", 1e-5)
    return _centred(call, x, dims, eps, weight, bias, fit)


def rms_norm(call: Call) -> Any:
    """Freeze the root mean square of RMS normalisation."""
    x = call.args[0]
    if call.replaying:
        return x * call.take()
    shape, eps = argument(call, 1, "normalized_shape"), argument(call, 3, "eps")
    weight = argument(call, 2, "weight")
    y = call.native_detached()
    source = x.detach()
    eps = torch.finfo(source.dtype).eps if eps is None else eps
    slope = (source.square().mean(tuple(range(-len(shape), 0)), keepdim=True) + eps).rsqrt()
    slope = slope if weight is None else slope * weight
    call.put(slope)
    return Affine.apply(x, y, slope) if active(x) else y


def var_mean(call: Call) -> Any:
    """Freeze the spread that var_mean and std_mean return; the mean is linear."""
    x = call.args[0]
    kwargs = {k: v for k, v in call.kwargs.items() if k in ("dim", "keepdim")}
    if len(call.args) > 1 and not isinstance(call.args[1], bool):  # or var_mean(x, unbiased)
        kwargs["dim"] = call.args[1]
    if call.replaying:
        return call.take(), x.mean(**kwargs)
    spread = call.native_detached()[0]
    call.put(spread)
    return spread, x.mean(**kwargs)


def in_plain_order(result: Tensor) -> Tensor:
    """Let the gradient of batch normalisation's result arrive in plain memory order.

    The backward pass of PyTorch's batch normalisation in evaluation mode is wrong on the CPU (seen
    in 2.14) for one image whose gradient has its channels innermost and C as the stride of its
    batch, as it comes from ``x.flatten(2).transpose(1, 2)``: off by as much as the gradient itself.
    """
    # A hook on the result sees the gradient before batch normalization's own backward pass does.
    result.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
    return result
