"""Decoder of values: functions at the end of a network that make them, such as a final sigmoid.

A sigmoid is frozen because as a rule it scales something. Where it makes the sides of a box or
another value that the network returns, nothing would pass it. Such functions, and what only
rearranges or scales their results, are run again outside the network, as a part of the readout:
there they have their own derivative, the tangent at the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.parameter import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten
from torch.utils.weak import WeakTensorKeyDictionary

from cvx_core.models.forward import version
from cvx_core.recording.rules.elementwise import constant

_FIRST = ("sigmoid", "hardsigmoid", "softplus", "exp", "softmax", "reciprocal")
_SUMS = ("linear", "matmul", "__matmul__", "sum")
_ADDED = "add sub rsub subtract stack cat concat __add__ __radd__ __sub__ __rsub__"
_ELEMENTWISE = (
    "mul div neg pow clamp clip clamp_min clamp_max multiply divide true_divide negative "
    "__mul__ __rmul__ __truediv__ __rtruediv__ __rdiv__ __neg__ __pow__"
)
_MOVES = (
    "flatten unflatten view reshape squeeze unsqueeze permute transpose swapaxes movedim t "
    "contiguous clone __getitem__ select narrow index_select split chunk unbind expand expand_as "
    "to float double type_as pad_sequence"
)
_DECODING = {*_FIRST, *_SUMS, *f"{_ADDED} {_ELEMENTWISE} {_MOVES}".split()}


class Undecoded(NamedTuple):
    """What a network returned, with functions that are still to be run.

    Attributes
    ----------
    output
        As the network returned it.
    values
        What the functions begin with.
    functions
        What they make of it.
    """

    output: Any
    values: tuple[Tensor, ...]
    functions: _Functions


def decoded(output: Any) -> Any:
    """Return what a network returned, with the functions run."""
    if not isinstance(output, Undecoded):
        return output
    leaves, spec = tree_flatten(output.output)
    found = {id(k): v for k, v in zip(output.functions.begins, output.values, strict=True)}
    for number, call in output.functions.of_leaf.items():
        leaves[number] = call.run(found)
    return tree_unflatten(leaves, spec)


@dataclass(eq=False)
class _Begin:
    """A tensor of the network that the functions begin with; None once it is kept elsewhere."""

    tensor: Tensor | None
    version: int

    def run(self, found: dict[int, Any]) -> Any:
        return found[id(self)]

    def begins(self) -> Iterator[_Begin]:
        yield self


@dataclass(frozen=True, eq=False)
class _Call:
    """A call of a function, with calls and beginnings in place of the tensors that they make."""

    function: Callable[..., Any]
    args: Any
    kwargs: Any
    part: int | None

    def begins(self) -> Iterator[_Begin]:
        for one in tree_leaves((self.args, self.kwargs)):
            if isinstance(one, _Begin | _Call):
                yield from one.begins()

    def run(self, found: dict[int, Any]) -> Any:
        if id(self) not in found:

            def value(one: Any) -> Any:
                return one.run(found) if isinstance(one, _Begin | _Call) else one

            args, kwargs = tree_map(value, (self.args, self.kwargs))
            made = self.function(*args, **kwargs)
            found[id(self)] = made if self.part is None else made[self.part]
        return found[id(self)]


@dataclass(frozen=True, eq=False)
class _Functions:
    begins: tuple[_Begin, ...]
    of_leaf: dict[int, _Call]


class Decoding(TorchFunctionMode):
    """Finds the functions that make a network's values, while the network runs.

    Parameters
    ----------
    rules
        By which functions run, by name: decoding begins with those that they hold constant.
    notes
        What is known of the network; a network that has no such functions is noted.
    shape
        Of its inputs, (C, H, W).
    """

    def __init__(
        self, rules: Mapping[str, Any], notes: set[tuple[Hashable, ...]], shape: Sequence[int]
    ) -> None:
        super().__init__()
        self._first = frozenset(name for name in _FIRST if rules.get(name) is constant)
        self._notes, self._none = notes, ("no decoder", self._first, tuple(shape))
        self._made: Any = WeakTensorKeyDictionary()
        self._constants: Any = WeakTensorKeyDictionary()

    @property
    def unless_known(self) -> AbstractContextManager[Any]:
        """The mode, or none where there is nothing to find: it takes time at each function."""
        return self if self._first and self._none not in self._notes else nullcontext()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function, and note what it makes."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        # Looking at tensors is no part of the network.
        with torch._C.DisableTorchFunction():
            self._note(getattr(func, "__name__", ""), func, args, kwargs, out)
        return out

    def undecoded(self, output: Any) -> Any:
        """Return an output with the functions that make its values still to be run, if any do."""
        calls = {k: self._call(one) for k, one in enumerate(tree_leaves(output))}
        found = {k: call for k, call in calls.items() if call is not None}
        begins = tuple(dict.fromkeys(one for call in found.values() for one in call.begins()))
        values = tuple(one.tensor for one in begins if one.tensor is not None)
        # In place, the network may have overwritten what they begin with.
        if not found or any(
            version(value) != one.version for one, value in zip(begins, values, strict=True)
        ):
            self._notes.add(self._none)
            return output
        for one in begins:
            one.tensor = None
        return Undecoded(output, values, _Functions(begins, found))

    def _note(self, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        made = out if isinstance(out, tuple | list) else [out]
        tensors = {k: one for k, one in enumerate(made) if isinstance(one, Tensor)}
        if name == "detach" or all(map(self._is_constant, given)):
            for one in tensors.values():
                self._constants[one] = version(one)
        elif name in _DECODING and self._continues(name, given):
            args, kwargs = tree_map(self._reference, (args, kwargs))
            for k, one in tensors.items():
                call = _Call(func, args, kwargs, None if made is not out else k)
                self._made[one] = call, version(one)

    def _continues(self, name: str, given: Sequence[Tensor]) -> bool:
        """Whether a function begins the decoding, or continues it."""
        others = [one for one in given if self._call(one) is None]
        if len(others) == len(given):
            return name in self._first and len(given) == 1
        # A matrix belongs to a layer, and what is before a layer is a part of the network.
        if name in _SUMS and any(one.ndim > 1 for one in others):
            return False
        return name in _ADDED.split() or all(map(self._is_constant, others))

    def _call(self, tensor: Any) -> _Call | None:
        found = self._made.get(tensor) if isinstance(tensor, Tensor) else None
        return found[0] if found is not None and version(tensor) == found[1] else None

    def _reference(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or self._is_constant(value):
            return value
        return self._call(value) or _Begin(value, version(value))

    def _is_constant(self, tensor: Tensor) -> bool:
        if isinstance(tensor, Parameter) or not tensor.is_floating_point():
            return True
        return bool(self._constants.get(tensor, -1) == version(tensor))
