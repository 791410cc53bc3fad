"""Constants of a frozen network: what each function adds that does not come from the input.

With frozen gates a network is affine in its input, and so is every function in it:
f(x) = f_linear(x) + c. The c are biases, what normalisation subtracts, position embeddings, class
tokens, and the offsets of clipped activations. Srinivas and Fleuret 2019 (arXiv:1905.00780) call
them explicit and implicit biases; with the input's part they sum to the output exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cvx_core.recording.rules.call import Call, active, any_active, argument


class Constants:
    """Constants of one forward pass, each with zeros added to it that receive its gradient."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []

    def find(self, name: str, run: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the constant that a call is about to add, to be broadcast to its result."""
        maker = MAKERS.get(name)
        if maker is None or not any_active((args, kwargs)):
            return None
        with torch.no_grad():
            return maker(Call(name, run, args, kwargs, None))

    def mark(self, constant: Tensor, result: Tensor, *, in_place: bool) -> Tensor:
        """Return the result plus zeros that require a gradient."""
        # Expanded from one element: zeros of the result's size would double the memory.
        zeros = result.new_zeros(()).expand(result.shape).requires_grad_()
        self.kept.append((constant, zeros))
        return result.add_(zeros) if in_place else result + zeros

    def parts(self, gradients: list[Tensor | None]) -> list[Tensor | None]:
        """Return each constant's contribution to the seeded output, laid out as the result.

        None for those on which the output does not depend.
        """
        return [
            None if gradient is None else gradient * constant
            for (constant, _), gradient in zip(self.kept, gradients, strict=True)
        ]


def _bias(position: int, dim: int) -> Callable[[Call], Any]:
    def maker(call: Call) -> Any:
        bias = argument(call, position, "bias")
        if bias is None or active(bias):
            return None
        if dim == -1:
            return bias
        if call.name.startswith("conv"):
            return bias.reshape(-1, *[1] * int(call.name[-2]))
        return bias.reshape(1, -1, *[1] * (call.args[0].ndim - 2))

    return maker


def _batch_norm(call: Call) -> Any:
    """Return the shift of batch or instance normalization, whose arguments have the same order."""
    weight, bias = argument(call, 1, "weight"), argument(call, 2, "bias")
    mean, var = argument(call, 3, "running_mean"), argument(call, 4, "running_var")
    if argument(call, 5, "training", False) or mean is None:
        # The mean is then computed from the input, and linear in it.
        added = bias
    else:
        scale = (var + argument(call, 7, "eps", 1e-5)).rsqrt()
        added = -mean * (scale if weight is None else scale * weight)
        added = added if bias is None else added + bias
    return None if added is None else added.reshape(1, -1, *[1] * (call.args[0].ndim - 2))


def _sum(call: Call) -> Any:
    a, b = call.args[0], argument(call, 1, "other")
    alpha = argument(call, 2, "alpha", 1)
    if call.name == "rsub":
        a, b = b, a
    sign = 1 if call.name == "add" else -1
    if active(a) and active(b):
        return None
    other, factor = (b, sign * alpha) if active(a) else (a, 1)
    like = a if active(a) else b
    # In the dtype of the other term: a number must not pass through single precision to double.
    return factor * torch.as_tensor(other, dtype=like.dtype, device=like.device)


def _joined(call: Call) -> Any:
    tensors = argument(call, 0, "tensors")
    if all(map(active, tensors)):
        return None
    # Joining constants with zeros gives the constant its position in the result.
    parts = [torch.zeros_like(t) if active(t) else t for t in tensors]
    return call.run(
        parts, *call.args[1:], **{k: v for k, v in call.kwargs.items() if k != "tensors"}
    )


def _added_product(call: Call) -> Any:
    added = call.args[0]
    return None if active(added) else argument(call, 3, "beta", 1) * added


def _chosen(call: Call) -> Any:
    a, b = argument(call, 1, "input"), argument(call, 2, "other")
    if active(a) and active(b):
        return None
    return call.run(call.args[0], 0 * a if active(a) else a, 0 * b if active(b) else b)


def _greater(call: Call) -> Any:
    a, b = call.args[0], argument(call, 1, "other")
    if not isinstance(b, Tensor) or (active(a) and active(b)):
        return None
    # The constant contributes where it is the larger (or smaller) of the two, and only there. Where
    # both are equal the gradient is the signal's.
    value = call.native()
    return torch.where(value == (a if active(a) else b), 0, value)


def _filled(call: Call) -> Any:
    mask, value = argument(call, 1, "mask"), argument(call, 2, "value")
    if active(value):
        return None
    x = call.args[0]
    return torch.as_tensor(value, dtype=x.dtype, device=x.device) * mask.to(x)


def _offset(call: Call) -> Any:
    """Return f(x) - f'(x) x, the constant of a piecewise linear function."""
    # The function may run in place, which a leaf that requires a gradient doesn't allow.
    with torch.enable_grad():
        source = call.args[0].detach().clone().requires_grad_()
        y = call.run(source.clone(), *call.args[1:], **call.kwargs)
        (slope,) = torch.autograd.grad(y.sum(), source)
    return (y - slope * source).detach()


def _shift(call: Call) -> Any:
    x = call.args[0].detach()
    return call.run(x.clone(), *call.args[1:], **call.kwargs) - x


MAKERS: dict[str, Callable[[Call], Any]] = {
    "linear": _bias(2, -1),
    "layer_norm": _bias(3, -1),
    "group_norm": _bias(3, 1),
    **{f"conv{kind}{n}d": _bias(2, 1) for kind in ("", "_transpose") for n in (1, 2, 3)},
    **dict.fromkeys(("batch_norm", "instance_norm"), _batch_norm),
    **dict.fromkeys(("add", "sub", "rsub"), _sum),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack", "hstack", "vstack"), _joined),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv"), _added_product),
    "where": _chosen,
    "masked_fill": _filled,
    **dict.fromkeys(("maximum", "minimum"), _greater),
    **dict.fromkeys(("relu6", "hardtanh", "threshold", "softshrink", "clamp", "clip"), _offset),
    **dict.fromkeys(("clamp_min", "clamp_max", "hardshrink"), _offset),
    **dict.fromkeys(("log_softmax", "log_sigmoid"), _shift),
}
"""Functions that find the constant which a call adds, by the name of the called function."""
