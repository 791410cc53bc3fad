"""Products and quotients of tensors that both depend on the input."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cvx_core.recording.rules.call import Call, Halved, active, argument


def product(call: Call) -> Any:
    """A product of two tensors that both depend on the input: half to each."""
    a, b = call.args[0], argument(call, 1, "other")
    if call.replaying:
        kept = call.take()
        if kept is None:
            return call.native()
        first, second = kept
        rest = call.args[2:]
        return 0.5 * (
            call.run(a, second, *rest, **call.kwargs) + call.run(first, b, *rest, **call.kwargs)
        )
    both = active(a) and active(b)
    call.put((a.detach(), b.detach()) if both else None)
    result = call.native()
    return Halved.apply(result) if both else result


def einsum(call: Call) -> Any:
    """einsum of two operands, as a product; of more, as it is."""
    operands = call.args[1:]
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    if len(operands) != 2:
        return call.native()
    equation, run = call.args[0], call.run
    return product(Call("einsum", lambda a, b: run(equation, a, b), operands, {}, call.tape))


def quotient(call: Call) -> Any:
    """a / b: the divisor is a scale and held."""
    a, b = call.args[0], argument(call, 1, "other")
    rest = call.args[2:]
    kwargs = {k: v for k, v in call.kwargs.items() if k != "other"}
    if not isinstance(b, Tensor):
        return call.native()
    if call.replaying:
        kept = call.take()
        return call.run(a, b if kept is None else kept, *rest, **kwargs)
    held = active(b)
    call.put(b.detach() if held else None)
    return call.run(a, b.detach(), *rest, **kwargs)
