"""Interception of torch functions: frozen gates, propagation rules, recorded attention.

With its gates frozen at their values for one input, a network is affine in that input, so that
gradient times activation is conserved: the sum over a layer, plus the contributions of constants,
is the seeded output (Bach 2015 for ReLU networks; Ali 2022, arXiv:2202.07304, and Achtibat 2024,
arXiv:2402.05602, for normalisation and attention). Functions are intercepted, not modules, so that
it doesn't matter whether a model calls ``nn.GELU`` or ``F.gelu``. Frozen are:

    gates        GELU, SiLU, hardswish, mish, tanh, ... as x * (f(x) / x)
    scales       the deviation in layer, group, instance and RMS normalisation, norms, divisors
    attention    softmax and sigmoid outputs, scaled dot-product attention's probabilities
    choices      ReLU, max pooling, clamp, maximum: their own gradient already freezes them; the
                 places at which grid_sample reads; whatever the network itself detaches, and the
                 indices and numbers that it computes
    products     of two tensors that both depend on the input: half to each (Achtibat 2024),
                 unless one is a function of the other element by element, and so its gate
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import FunctionType, MethodWrapperType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import Parameter
from torch.overrides import TorchFunctionMode

from cvx_core._util.modules import named_modules
from cvx_core.errors import MethodError
from cvx_core.recording.interception.constants import MAKERS, Constants
from cvx_core.recording.interception.leakage import SHIFTED, Leakage
from cvx_core.recording.interception.pointwise import ZEROS, Pointwise
from cvx_core.recording.rules.attention import attention_probabilities, pass_attention
from cvx_core.recording.rules.call import Call, active, any_active, is_choice
from cvx_core.recording.rules.normalization import in_plain_order
from cvx_core.recording.rules.pooling import MAX_POOLS
from cvx_core.recording.rules.table import FROZEN_GATES, OWN_GRADIENT
from cvx_core.recording.saved_tensors import SavedTensors, Tape

# Functions written in Python whose rule replaces them as a whole. Pooling dispatches on
# return_indices, einsum and norm choose a kernel by their arguments: none of these has a body in
# which rules would find the operation.
_NAMED: dict[Any, str] = {
    **{getattr(F, name): name for name in MAX_POOLS},
    torch.functional.einsum: "einsum",
    torch.functional.norm: "norm",
    Tensor.norm: "norm",
}
_PRODUCTS = ("mul", "multiply")
_DATA = Tensor.data.__get__  # type: ignore[attr-defined]
_INTEGERS = {int}
_SIZES = frozenset({Tensor.dim, Tensor.size})
# Python functions of torch begin with one of these checks, which sends them back to the mode.
_FLAGS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def _never(*_: Any) -> bool:
    return False


class Interception(TorchFunctionMode):
    """Mode that intercepts every torch function the model calls in this thread.

    Parameters take part without gradient, whatever their `requires_grad`, and tensors that the
    backward pass needs are copied before they are overwritten. On request, gates are frozen (and
    taped) or replaced by other rules, and attention probabilities are kept.

    Attributes
    ----------
    started
        Whether the forward pass has reached the earliest recorded layer.
    attention
        Probabilities (B, heads, queries, keys) in the order of the forward pass, or None.
    attended
        Called with the probabilities of each self-attention; its result replaces them.
    constants
        Constants that functions add, or None if they are not recorded.
    leakage
        Relevance that ends in frozen functions.
    """

    def __init__(
        self,
        saved: SavedTensors,
        *,
        freeze: bool = False,
        tape: Tape | None = None,
        attention: bool = False,
        attended: Callable[[Tensor], Tensor] | None = None,
        constants: Constants | None = None,
        table: Mapping[str, Callable[[Call], Any]] | None = None,
        own_constants: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.saved = saved
        self.rules = table if table is not None else FROZEN_GATES if freeze else {}
        self.tape = tape
        self.started = False
        self.attention: list[Tensor] | None = [] if attention else None
        self.attended = attended
        self.constants = constants
        self._own_constants = own_constants
        self.leakage = Leakage()
        self._of_rules = bool(self.rules)
        # Whether functions before the earliest layer run as they are.
        self._starts_plain = self.attention is None and attended is None
        self._pointwise = Pointwise()
        self._opened: dict[Any, Callable[..., Any] | None] = {}
        self._inside: list[Any] = []
        self._heads: list[int] = []

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one function of the model."""
        if func == _DATA:
            func = Tensor.detach
        # An attribute such as x.shape, or x.mT.
        if isinstance(func, MethodWrapperType) or func in _SIZES:
            result = func(*args, **(kwargs or {}))
            if self.leakage.followed and isinstance(result, Tensor) and self._following:
                self.leakage.follow(args, result)
            return result
        # Before anything else: a parameter with requires_grad would make its function active, and
        # with it everything before the first recorded layer.
        args = _all_detached(args)
        if kwargs:
            kwargs = dict(zip(kwargs, _all_detached(tuple(kwargs.values())), strict=True))
        else:
            kwargs = {}
        if not self.started and self._starts_plain:
            # The mode is off inside, and what the function's parts are given is detached above.
            return func(*args, **kwargs)
        # As `_following`, without a call for each function.
        replaying = self.tape is not None and self.tape.replaying
        following = self._of_rules and self.started and not self.leakage.over and not replaying
        result = self._intercepted(func, args, kwargs, following=following)
        if following and self.leakage.followed:
            # Assignment by index and out= change their first argument and return nothing.
            self.leakage.follow((args, kwargs), args[0] if result is None and args else result)
        return result

    @property
    def _following(self) -> bool:
        replaying = self.tape is not None and self.tape.replaying
        return self.started and not self.leakage.over and not replaying

    def _intercepted(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, following: bool
    ) -> Any:
        name = _NAMED.get(func) if isinstance(func, FunctionType) else None
        if name is None:
            if isinstance(func, FunctionType):
                # A function written in Python (F.multi_head_attention_forward, F.layer_norm) is
                # composed of others. Called as it is, it would dispatch here again, and only as a
                # whole: rules apply to its parts, so that its body runs without that dispatch.
                body = self._body(func)
                # Methods of Tensor that are written in Python call themselves from their body.
                if body is None or func in self._inside:
                    return func(*args, **kwargs)
                self._inside.append(func)
                multi_head = func is F.multi_head_attention_forward
                if multi_head:
                    self._heads.append(kwargs["num_heads"] if "num_heads" in kwargs else args[4])
                # torch leaves the mode while __torch_function__ runs: without entering it again the
                # parts of the composite function would pass unseen. By what `with self` calls in
                # the end, because this runs for each such function.
                torch._C._push_on_torch_function_stack(self)
                try:
                    return body(*args, **kwargs)
                finally:
                    torch._C._pop_torch_function_stack()
                    self._inside.pop()
                    if multi_head:
                        self._heads.pop()
            name = getattr(func, "__name__", "")
        # Before `started`: attention is recorded of the whole network, also of the part before the
        # earliest layer.
        if self.attention is not None and name in ("softmax", "scaled_dot_product_attention"):
            self._keep_attention(name, func, args, kwargs)
        if self.attended is not None and name in ("softmax", "scaled_dot_product_attention"):
            return pass_attention(func, args, kwargs, self.attended)
        if not self.started:
            return func(*args, **kwargs)
        in_place = name.endswith("_") and not name.endswith("__")
        plain = name[:-1] if in_place else name
        if self.tape is not None:
            self.tape.count()
            if self.tape.replaying:
                if self.tape.has_choice:
                    chosen = self.tape.take_choice()
                    return args[0].copy_(chosen) if in_place else chosen
                return self._run(plain, in_place, func, args, kwargs)
        # All three before the call: in place, it overwrites the arguments that they look at.
        added = met = None
        elementwise = self._of_rules and plain in ZEROS
        made = self._pointwise.made(plain, args) if elementwise else None
        if plain in MAKERS:
            if self.constants is not None and plain not in self._own_constants:
                added = self.constants.find(plain, func, args, kwargs)
            if following and (self.leakage.followed or plain in SHIFTED):
                met = self.leakage.meets(plain, func, args, kwargs)
        # On a tape, what runs under no_grad is replayed as it was, without a rule.
        cut = self.tape is not None and not torch.is_grad_enabled() and any_active((args, kwargs))
        ruled = plain in self.rules and not cut
        # Asked before the call: in place, a result without gradient replaces the active tensor.
        signal = any_active((args, kwargs)) if in_place else None
        result = self._run(plain, in_place, func, args, kwargs, ruled=ruled)
        # Where a gradient flows on nothing ends, and a number carries nothing: the common cases.
        kept = isinstance(result, Tensor | tuple | list) if self.tape is None else True
        passes = isinstance(result, Tensor) and result.requires_grad
        if kept and not passes and (following or self.tape is not None):
            if signal is None:
                signal = any_active((args, kwargs))
            chosen = signal and not ruled and is_choice(result)
            if chosen and self.tape is not None:
                self.tape.put_choice(result)
            fresh = plain.startswith("new_") or plain.endswith("_like")
            if following and signal and (ruled or (chosen and not fresh)):
                self.leakage.begin(plain, result)
        # The zeros that mark a constant are added in place too, to a result that may be saved.
        if in_place and (added is not None or met is not None):
            self.saved.before_overwriting(result)
        if self.constants is not None and added is not None:
            result = self.constants.mark(added, result, in_place=in_place)
        if met is not None:
            result = self.leakage.mark(met, result, in_place=in_place)
        if made is not None:
            self._pointwise.note(result, made)
        return result

    def _run(
        self,
        name: str,
        in_place: bool,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        ruled: bool = True,
    ) -> Any:
        rule = self.rules.get(name) if ruled else None
        first = args[0] if args else None
        floating = isinstance(first, Tensor) and first.is_floating_point()
        if rule is None or not (floating or _has_floats((*args, *kwargs.values()))):
            if in_place or name == "__setitem__":
                self.saved.before_overwriting(args[0] if args else kwargs.get("input"))
            result = func(*args, **kwargs)
        else:
            result = self._freeze(name, in_place, rule, func, args, kwargs)
        alone = name == "batch_norm" and result.shape[0] == 1 and result.requires_grad
        return in_plain_order(result) if alone else result

    def _freeze(
        self,
        name: str,
        in_place: bool,
        rule: Callable[[Call], Any],
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        # Rules find the input as the first argument.
        if not args and "input" in kwargs:
            args, kwargs = (kwargs["input"],), {k: v for k, v in kwargs.items() if k != "input"}
        # A rule computes out of place and copies its result back, which costs memory; where the
        # function's own derivative is right, it can stay in place.
        if in_place and rule in OWN_GRADIENT and self.tape is None:
            self.saved.before_overwriting(args[0])
            return func(*args, **kwargs)
        run = _out_of_place(func) if in_place else func
        gate = self._pointwise.gate(args) if name in _PRODUCTS else None
        result = rule(Call(name, run, args, kwargs, self.tape, gate))
        if not in_place:
            return result
        target = args[0]
        self.saved.before_overwriting(target)
        if isinstance(result, Tensor) and active(target) and not active(result):
            # Otherwise it would look as if it still depended on the layer, and halve what it
            # is multiplied with. A view can't be cut off from its graph.
            target = target if target._is_view() else target.detach_()
        return target.copy_(result)

    def _body(self, func: Any) -> Callable[..., Any] | None:
        """Return a composite function without its own dispatch, or None if it has none."""
        # The dispatch is the check `if has_torch_function(...)` in the function's code, which looks
        # the check up among the globals of its module. Patching that module would change it for all
        # threads; a second function of the same code, with globals of its own in which the check
        # says no, changes nothing for anybody else. Closures and defaults belong to the function
        # and must be handed on. Cached, because globals are large dictionaries to copy.
        if func not in self._opened:
            names = (*func.__code__.co_names, *func.__code__.co_freevars)
            if any(flag in names for flag in _FLAGS):
                blind = {**func.__globals__, **dict.fromkeys(_FLAGS, _never)}
                body = FunctionType(
                    func.__code__, blind, func.__name__, func.__defaults__, func.__closure__
                )
                body.__kwdefaults__ = func.__kwdefaults__
                self._opened[func] = body
            else:
                self._opened[func] = None
        return self._opened[func]

    def _keep_attention(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        assert self.attention is not None
        with torch.no_grad():
            if name == "scaled_dot_product_attention":
                call = Call(name, func, args, kwargs, None)
                self.attention.append(attention_probabilities(call).detach())
                return
            scores = args[0]
            # Attention of any shape: that of a class token is (..., 1, N), a window's is smaller.
            if isinstance(scores, Tensor) and scores.ndim >= 3 and scores.shape[-1] > 1:
                found = func(*args, **kwargs).detach()
                if self._heads and found.ndim == 3:
                    # With need_weights, nn.MultiheadAttention merges the heads with the batch.
                    found = found.unflatten(0, (-1, self._heads[-1]))
                self.attention.append(found)


def _all_detached(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments with parameters detached, also in lists and tuples."""
    found = None
    # One loop, because this runs for every function of the network.
    for i, value in enumerate(values):
        kind, changed = type(value), value
        if kind is Tensor:
            changed = _usable(value) if value.is_inference() else value
        elif kind is Parameter:
            changed = value.detach()
            changed = changed.clone() if changed.is_inference() else changed
        elif isinstance(value, Tensor):
            changed = _usable(value)
        # Not a stride or the like, which would be a call for nothing.
        elif isinstance(value, tuple | list) and set(map(type, value)) != _INTEGERS:
            inner = _all_detached(tuple(value))
            changed = value if all(map(operator.is_, inner, value)) else kind(inner)
        if changed is not value:
            found = list(values) if found is None else found
            found[i] = changed
    return values if found is None else tuple(found)


def _usable(tensor: Tensor) -> Tensor:
    """Return a tensor that takes part in a graph, but needs no gradient if it is a parameter."""
    if isinstance(tensor, Parameter):
        tensor = tensor.detach()
    # Tensors made under inference_mode can't be saved for a backward pass; a clone made outside of
    # it can.
    return tensor.clone() if tensor.is_inference() else tensor


def _has_floats(args: tuple[Any, ...]) -> bool:
    for one in args:
        if isinstance(one, Tensor):
            if one.is_floating_point():
                return True
        elif isinstance(one, tuple | list) and _has_floats(tuple(one)):
            return True
    return False


def _out_of_place(func: Any) -> Callable[..., Any]:
    def run(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = func(x.clone(), *args, **kwargs)
        return result

    return run


def check_seen(model: nn.Module, name: str) -> None:
    """Refuse a network with parts in TorchScript, whose functions can't be intercepted.

    Raises
    ------
    MethodError
        If there are any.
    """
    for part, module in named_modules(model):
        if isinstance(module, torch.jit.ScriptModule):
            raise MethodError(
                f"{f'{part!r} of {name}' if part else name} is a TorchScript module, in which no "
                "function can be intercepted.",
                "Pass the Python module it was made from, or use a method that follows the model's "
                "own gradient.",
            )
