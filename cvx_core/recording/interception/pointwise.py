"""Elementwise dependencies between tensors, by which gates that are written out are recognized.

``x * F.relu6(x + 3) / 6`` is hardswish, and an elementwise function f of x as much as the fused
one: its gate is f(x) / x. To an interceptor it is a product of two tensors that both depend on the
input. It differs from other products in that one factor is a function of the other, or of what the
other was made of by functions that are zero at zero, such as 0.5 * x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from weakref import ref

from torch import Tensor

from cvx_core.recording.rules.call import active

Zero = Literal["", "all", "any"]
"""Whether a result is zero where all of its operands are, or any is, or need not be."""

_AT_ZERO = (
    "gelu silu hardswish mish tanh elu selu celu softsign tanhshrink asinh arcsinh atan arctan "
    "log1p expm1 sin sinh tan square sqrt relu leaky_relu prelu abs softshrink hardshrink relu6 "
    "neg negative positive pow clone contiguous float double half bfloat16 to type"
)
ZEROS: dict[str, Zero] = {
    **dict.fromkeys(_AT_ZERO.split(), "all"),
    **dict.fromkeys(("mul", "multiply"), "any"),
    **dict.fromkeys(("div", "divide", "true_divide"), "all"),
    **dict.fromkeys(("add", "sub", "subtract", "rsub"), "all"),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max", "hardtanh", "threshold"), ""),
}
"""Elementwise functions."""
_SUMS = ("add", "sub", "subtract", "rsub")


# Compared by identity: two values are the same only if they are one computation.
@dataclass(eq=False, frozen=True)
class _Value:
    """The content of a tensor at one time, and the contents that it was computed from."""

    parents: tuple[_Value, ...] = ()
    zero: Zero = ""


class Pointwise:
    """Tracker of elementwise functions through a forward pass."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[ref[Tensor], int, _Value]] = {}

    def made(self, function: str, args: tuple[Any, ...]) -> _Value | None:
        """Return the value a call of a function in `ZEROS` is about to compute.

        None if it is not elementwise.
        """
        zero = ZEROS[function]
        operands: list[Tensor] = []
        for arg in args:
            if isinstance(arg, Tensor) and arg.requires_grad:
                # Broadcasting mixes elements of one operand with several of the other.
                if operands and arg.shape != operands[0].shape:
                    return None
                operands.append(arg)
        if not operands:
            return None
        # Adding a number or a constant moves the zero: f(0) is no longer 0, and f(x) / x no gate.
        if function in _SUMS and len(operands) < 2:
            zero = ""
        return _Value(tuple(map(self._value, operands)), zero)

    def note(self, result: Any, value: _Value) -> None:
        """Keep the value of a call's result."""
        # With the tensor's version: an in-place function gives the same tensor another value.
        if isinstance(result, Tensor) and result.requires_grad:
            self._of[id(result)] = (ref(result), result._version, value)

    def gate(self, args: tuple[Any, ...]) -> int | None:
        """Return which of the two factors of a product is a gate of the other, if one is."""
        if len(args) != 2 or not (active(args[0]) and active(args[1])):
            return None
        # x * x has no factor that is the gate of the other: each takes its half.
        if args[0] is args[1] or args[0].shape != args[1].shape:
            return None
        values = [self._value(arg) for arg in args]
        for gate, signal in ((1, 0), (0, 1)):
            if any(_is_function(values[gate], root) for root in _roots(values[signal])):
                return gate
        return None

    def _value(self, tensor: Tensor) -> _Value:
        found = self._of.get(id(tensor))
        if found is None or found[0]() is not tensor or found[1] != tensor._version:
            value = _Value()
            self.note(tensor, value)
            return value
        return found[2]


def _roots(value: _Value) -> list[_Value]:
    """Return a value and the values it was computed from, as far as it is zero with them."""
    found, todo = [], [value]
    while todo:
        one = todo.pop()
        if one not in found:
            found.append(one)
            todo += one.parents
    return [one for one in found if _is_zero_with(value, one, {})]


def _is_zero_with(value: _Value, root: _Value, known: dict[_Value, bool]) -> bool:
    """Whether a value is zero where a root is, whatever the rest is."""
    if value is root:
        return True
    if value not in known:
        zeros = [_is_zero_with(parent, root, known) for parent in value.parents]
        known[value] = (
            value.zero != "" and bool(zeros) and (any if value.zero == "any" else all)(zeros)
        )
    return known[value]


def _is_function(value: _Value, root: _Value) -> bool:
    """Whether a value was computed from a root alone."""
    todo, seen = [value], set()
    while todo:
        one = todo.pop()
        if one is root or one in seen:
            continue
        if not one.parents:
            return False
        seen.add(one)
        todo += one.parents
    return True
