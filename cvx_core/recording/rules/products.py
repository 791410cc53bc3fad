"""Products and quotients of tensors that both depend on the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cvx_core.recording.rules.autograd import Halved
from cvx_core.recording.rules.call import Call, active, argument

_SECOND = {"bmm": "mat2", "mm": "mat2", "mv": "vec", "dot": "tensor"}
_SECOND |= {"outer": "vec2", "ger": "vec2", "linalg_vecdot": "y"}
_SECOND |= dict.fromkeys(
    ("linear", *(f"conv{kind}{n}d" for n in (1, 2, 3) for kind in ("", "_transpose"))), "weight"
)


def second_of(name: str) -> str:
    """Return the name of a product's second operand."""
    return _SECOND.get(name, "other")


def product(call: Call) -> Any:
    """Halve the gradient of a product of two tensors that both depend on the input.

    A convolution whose kernel is computed from the input is such a product; its bias is a constant.
    A factor that is the other's gate, written out as in x * relu6(x + 3), is frozen instead.
    """
    # By the product rule each factor's contribution is the whole product, so that together they
    # would be twice the output.
    name = second_of(call.name)
    a, b = call.args[0], argument(call, 1, name)
    if call.replaying:
        kept = call.take()
        if kept is None:
            return call.native()
        first, second = kept
        rest, kwargs = call.args[2:], {k: v for k, v in call.kwargs.items() if k != name}
        if first is None or second is None:
            return call.run(a if first is None else first, b if second is None else second)
        return 0.5 * (call.run(a, second, *rest, **kwargs) + call.run(first, b, *rest, **kwargs))
    if call.gate is not None:
        a, b = (a.detach(), b) if call.gate == 0 else (a, b.detach())
        call.put((a, None) if call.gate == 0 else (None, b))
        return call.run(a, b)
    both = active(a) and active(b)
    call.put((a.detach(), b.detach()) if both else None)
    result = call.native()
    return Halved.apply(result) if both else result


_MULTIPLY: dict[str, Callable[..., Any]] = {
    "addcmul": torch.mul,
    "addmm": torch.mm,
    "baddbmm": torch.bmm,
    "addbmm": lambda a, b: torch.bmm(a, b).sum(0),
}


def product_and_more(call: Call) -> Any:
    """Halve the gradient of the product in a sum and a product, as in addmm."""
    first, second = ("tensor1", "tensor2") if call.name == "addcmul" else ("mat1", "mat2")
    if call.name in ("baddbmm", "addbmm"):
        first, second = "batch1", "batch2"
    a, b = argument(call, 1, first), argument(call, 2, second)
    both = call.take() if call.replaying else active(a) and active(b)
    if not call.replaying:
        call.put(both)
    if not both:
        return call.native()
    scale = call.kwargs.get("value", 1) * call.kwargs.get("alpha", 1)
    found = product(Call("product", _MULTIPLY[call.name], (a, b), {}, call.tape))
    return call.kwargs.get("beta", 1) * call.args[0] + scale * found


def einsum(call: Call) -> Any:
    """Treat einsum of two operands as a product; of more, run it as it is."""
    operands = call.args[1:]
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    if len(operands) != 2:
        return call.native()
    equation, run = call.args[0], call.run
    return product(Call("einsum", lambda a, b: run(equation, a, b), operands, {}, call.tape))


def gated_half(call: Call) -> Any:
    """Freeze the gate of glu: one half times the sigmoid of the other."""
    x, dim = call.args[0], argument(call, 1, "dim", -1)
    half = x.shape[dim] // 2
    carried = x.narrow(dim, 0, half)
    if call.replaying:
        return carried * call.take()
    gate = x.detach().narrow(dim, half, half).sigmoid()
    call.put(gate)
    return carried * gate


def cosine(call: Call) -> Any:
    """Treat cosine_similarity as a product of two directions with frozen lengths."""
    a, b = call.args[0], argument(call, 1, "x2")
    dim, eps = argument(call, 2, "dim", 1), argument(call, 3, "eps", 1e-8)
    shape = torch.broadcast_shapes(a.shape, b.shape)  # type: ignore[no-untyped-call]
    a, b = a.expand(shape), b.expand(shape)
    if call.replaying:
        lengths = call.take()
    else:
        lengths = _length(a, dim, eps), _length(b, dim, eps)
        call.put(lengths)
    parts = (a / lengths[0], b / lengths[1])
    return product(Call("product", torch.mul, parts, {}, call.tape)).sum(dim)


def _length(x: Tensor, dim: int, eps: float) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x.detach(), dim=dim, keepdim=True)
    return length.clamp_min(eps)


def quotient(call: Call) -> Any:
    """Freeze the divisor of a quotient, which is a scale."""
    a, b = call.args[0], argument(call, 1, "other")
    rest = call.args[2:]
    kwargs = {k: v for k, v in call.kwargs.items() if k != "other"}
    if not isinstance(b, Tensor):
        return call.native()
    if call.replaying:
        kept = call.take()
        return call.run(a, b if kept is None else kept, *rest, **kwargs)
    # A divisor that doesn't depend on the layer is the same in the replay, and need not be taped.
    call.put(b.detach() if active(b) else None)
    return call.run(a, b.detach(), *rest, **kwargs)
