"""Conservation of a seeded output with frozen gates: constants, leakage, balance of each module.

The balance compares the forward pass with its replay at zero. In a frozen network, which is affine,
a module that maps ``in`` to ``out`` passes on exactly what it receives:

    sum over outputs of <g, out - out'> = sum over inputs of <g, in - in'>,

g being the gradient of the seeded output with frozen gates, and ' the replay. A difference arises
in the module itself: in a function that is neither piecewise linear nor gated, so that its
derivative doesn't describe it. The differences of all modules, each without those of the modules
inside it, sum to the residual of the output as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from cvx_core.errors import MethodError
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording.interception.leakage import Origins
from cvx_core.recording.layers.hooks import hooked
from cvx_core.recording.layers.layer import Layer, first_tensor
from cvx_core.recording.layers.layout import Layout
from cvx_core.recording.recording import Recording
from cvx_core.recording.requirements import Requirements
from cvx_core.recording.rules.base import no_rules
from cvx_core.recording.saved_tensors import SavedTensors

READOUT = "readout"
"""Name of the function that turns the network's output into logits."""


@dataclass(frozen=True)
class ModuleBalance:
    """Conservation in one call of a module, in logits.

    Attributes
    ----------
    module, call
        The module's name (empty for the network itself) and the number of the call, from 0.
    passed_on
        Contribution of the tensor that a recording of the module keeps: <g, out - out'>.
    missing
        Difference that arises in the module itself and not in a module inside it; no more than
        rounding where the frozen module is affine.
    """

    module: str
    call: int
    passed_on: float
    missing: float


@dataclass(frozen=True)
class Balance:
    """Conservation of one image in every module.

    Attributes
    ----------
    total
        <s, f(x)> - <s, f_frozen(0)>: contribution of the layer to the seeded output, in logits.
    calls
        Module calls in the order in which they began.
    """

    total: float
    calls: tuple[ModuleBalance, ...]

    def missing(self) -> dict[str, float]:
        """Return the differences by module, largest first; they sum to total - <g, A>."""
        by_name: Counter[str] = Counter()
        for one in self.calls:
            by_name[one.module] += one.missing  # type: ignore[assignment]
        return dict(sorted(by_name.items(), key=lambda pair: -abs(pair[1])))


def constant_part(recording: Recording, name: str) -> Tensor:
    """Return the logits (B, classes) with the gates as recorded and zeros at a layer.

    The frozen network is affine in the layer: <s, logits> = <gradient, activation> + <s, this>.
    """
    return recording.replay(name, torch.zeros_like(recording.raw(name)))


def contributions(
    recording: Recording, seed: Tensor, name: str
) -> tuple[Tensor, list[Tensor | None]]:
    """Return what a layer and what each constant of the network contribute to <seed, logits>.

    One backward pass.

    Returns
    -------
    tuple
        The contribution of each value of the layer, laid out as recorded; and one tensor for each
        bias, position embedding and the like, in forward order, laid out as the result of the
        function that adds it, or None where the logits don't depend on it. Together they sum to the
        seeded output.

    Raises
    ------
    MethodError
        If the recording was made without ``constants=True``, or the logits don't depend on the
        layer.
    """
    constants, node = recording.kept_constants, recording.node(name)
    if constants is None:
        raise MethodError("No constants were recorded.", "Record with constants=True.")
    if not recording.has_gradient:
        raise recording.no_path(name)
    zeros = [zeros for _, zeros in constants.kept]
    own, *others = recording.backward(recording.logits, [node, *zeros], seed.to(recording.logits))
    if own is None:
        raise recording.no_path(name)
    return node.detach() * own, constants.parts(others)


def image_balance(recording: Recording, seed: Tensor, name: str, row: int) -> Balance:
    """Return `measure_balance` of <seed, logits> (classes,) for one image of a recording."""
    recording.forwards, recording.backwards = recording.forwards + 2, recording.backwards + 2
    image = recording.inputs[row : row + 1]
    return measure_balance(recording.model, image, recording.layer(name).name, seed[None])


def leakage(recording: Recording, seed: Tensor, name: str, row: int) -> dict[Origins, float]:
    """Return what frozen functions add to <seed, logits> (classes,) of one image, largest first.

    Where the signal itself passes a sigmoid, a softplus or a deviation, the result is a constant
    that no position carries; see `cvx_core.recording.interception.leakage`.
    """
    image = recording.inputs[row : row + 1]
    with recording.again(recording.layer(name).name, image) as (once_more, absorbed):
        nodes = absorbed.nodes()
        recording.forwards, recording.backwards = recording.forwards + 1, recording.backwards + 1
        logits = once_more.logits
        return absorbed.carried(
            list(once_more.backward(logits, nodes, seed[None].to(recording.logits)))
            if nodes and once_more.has_gradient
            else [None] * len(nodes)
        )


def relevance(recording: Recording, seed: Tensor, name: str) -> Tensor:
    """Return the contribution of each value of a layer to <seed, logits>, laid out as recorded.

    By the propagation rules of the recording; see `cvx_core.recording.Propagation`.

    Raises
    ------
    MethodError
        If the recording has none, or the logits don't depend on the layer.
    """
    node, found = recording.node(name), None
    if recording.passage is None:
        raise no_rules()
    if recording.has_gradient:
        found = recording.passage.relevance(
            recording.logits,
            seed.to(recording.logits),
            node,
            recording.baselines.get(recording.layer(name).name),
            recording.backward,
        )
    if found is None:
        raise recording.no_path(name)
    return found


def measure_balance(model: VisionModel, image: Tensor, name: str, seed: Tensor) -> Balance:
    """Return the balance of every module for <seed, logits>, from a layer on.

    One forward pass, two backward passes, and one replay.

    Parameters
    ----------
    model
        The model; left as found.
    image
        (1, C, H, W). A single image, because modules may fold the batch into other dimensions.
    name
        The layer.
    seed
        (1, classes), held constant.

    Raises
    ------
    MethodError
        If the network's path depends on its data, so that it can't be replayed.
    """
    # Before the ledger's hooks are attached: tracing the layout may run the network.
    layer = Layout.of(model, image).find(name)
    ledger = _Ledger()
    with ledger.attached(model.module):
        requirements = Requirements(layer.name, gates="frozen", tape=True)
        ledger.state = "forward"
        recording = Recording(model, image, requirements, {layer.name: layer})
        ledger.saved = recording.saved
        with recording:
            ledger.state = ""
            # First the gradients and then the replay, which frees each pair of tensors as it goes.
            nodes = ledger.nodes()
            found = (
                recording.backward(recording.logits, nodes, seed.to(recording.logits))
                if nodes and recording.has_gradient
                else [None] * len(nodes)
            )
            ledger.weigh(list(found))
            ledger.state = "replay"
            constant = constant_part(recording, layer.name)
            ledger.state = ""
            total = float((seed * (recording.logits.detach() - constant)).double().sum())
            [gradient] = recording.gradients(seed, layer.name, missing="zero")
            carried = float((gradient * recording.raw(layer.name)).double().sum())
    return Balance(total, tuple(ledger.balance(layer, carried, total)))


@dataclass
class _Tensor:
    """One tensor that goes into or out of a call and depends on the layer."""

    position: int
    node: Tensor | None
    gradient: Tensor | None = None
    flow: float = 0.0

    def replayed(self, value: Tensor) -> None:
        """Compare with the replayed tensor, and release both."""
        if self.gradient is not None:
            assert self.node is not None
            change = (self.node.detach() - value.detach()).double()
            self.flow = float((self.gradient.double() * change).sum())
        self.node = self.gradient = None


@dataclass
class _Call:
    module: str
    number: int
    parent: int | None
    taken: list[_Tensor] = field(default_factory=list)
    handed: list[_Tensor] = field(default_factory=list)
    overwritten: list[_Tensor] = field(default_factory=list)
    looked_at: int | None = None

    @property
    def gain(self) -> float:
        out = sum(t.flow for t in (*self.handed, *self.overwritten))
        return out - sum(t.flow for t in self.taken)


class _Ledger:
    """Hooks on all modules that record the tensors going in and out."""

    def __init__(self) -> None:
        self.state: Literal["", "forward", "replay"] = ""
        self.saved = SavedTensors()
        self._calls: list[_Call] = []
        self._open: list[int] = []
        self._count: Counter[str] = Counter()
        self._given: dict[int, list[tuple[int, Tensor, Tensor]]] = {}
        self._next = 0

    def attached(self, module: nn.Module) -> AbstractContextManager[None]:
        # What the hooks compute is no function of the network, and must not be on the tape.
        return hooked(
            module.named_modules(), before=_unseen(self._before), after=_unseen(self._after)
        )

    def nodes(self) -> list[Tensor]:
        return [t.node for t in self._tensors() if t.node is not None]

    def weigh(self, gradients: list[Tensor | None]) -> None:
        for tensor, gradient in zip(self._tensors(), gradients, strict=True):
            tensor.gradient = gradient

    def balance(self, layer: Layer, carried: float, total: float) -> Iterator[ModuleBalance]:
        """Yield the calls, each without the gains of the calls inside it."""
        # The gain of a call includes those of the calls inside it: its own is the difference.
        inside = [0.0] * len(self._calls)
        outermost = carried if layer.kind == "input" else 0.0
        for call in self._calls:
            here = (call.module, call.number) == (layer.module, layer.call)
            gain = carried if here and layer.kind != "input" else call.gain
            if call.parent is None:
                outermost += gain
            else:
                inside[call.parent] += gain
        for call, within in zip(self._calls, inside, strict=True):
            here = (call.module, call.number) == (layer.module, layer.call)
            handed = [t.flow for t in call.handed if t.position == call.looked_at]
            if here and layer.kind != "input":
                # The balance begins with what this call returns.
                yield ModuleBalance(call.module, call.number, carried, 0.0)
            else:
                yield ModuleBalance(call.module, call.number, sum(handed), call.gain - within)
        yield ModuleBalance(READOUT, 0, total, total - outermost)

    def _tensors(self) -> Iterator[_Tensor]:
        for call in self._calls:
            yield from call.taken
            yield from call.handed
            yield from call.overwritten

    def _before(self, name: str, args: Any, kwargs: Any) -> Any:
        if not self.state:
            return None
        leaves, spec = _pytree.tree_flatten((args, kwargs))
        if self.state == "replay":
            call, self._next = self._calls[self._next], self._next + 1
            self._open.append(self._next - 1)
            for one in call.taken:
                one.replayed(leaves[one.position])
            return None
        call = _Call(name, self._count[name], self._open[-1] if self._open else None)
        self._count[name] += 1
        self._calls.append(call)
        self._open.append(len(self._calls) - 1)
        for i, leaf in enumerate(leaves):
            # Two clones: the first is a node whose gradient is that of this module's input alone,
            # the second may be overwritten by the module while the node keeps its value.
            if _depends(leaf):
                node = leaf.clone()
                call.taken.append(_Tensor(i, node))
                leaves[i] = given = node.clone()
                self._given.setdefault(len(self._calls) - 1, []).append((i, leaf, given))
        return _pytree.tree_unflatten(leaves, spec) if call.taken else None

    def _after(self, _name: str, args: Any, kwargs: Any, output: Any) -> Any:
        if not self.state:
            return None
        number = self._open.pop()
        call = self._calls[number]
        leaves, spec = _pytree.tree_flatten(output)
        if self.state == "replay":
            for one in call.handed:
                one.replayed(leaves[one.position])
            inputs, _ = _pytree.tree_flatten((args, kwargs))
            for one in call.overwritten:
                one.replayed(inputs[one.position])
            return None
        for i, leaf, given in self._given.pop(number, []):
            # The module was given a copy. If it changed that in place, the caller, which may go on
            # with its own tensor, must find the change there.
            if given._version > 0:
                node = given.clone()
                call.overwritten.append(_Tensor(i, node))
                self.saved.before_overwriting(leaf)
                leaf.copy_(node)
        first = first_tensor(output)
        for i, leaf in enumerate(leaves):
            if leaf is first:
                call.looked_at = i
            if _depends(leaf):
                node = leaf.clone()
                call.handed.append(_Tensor(i, node))
                leaves[i] = node.clone()
        return _pytree.tree_unflatten(leaves, spec) if call.handed else None


def _unseen(hook: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return hook(*args)

    return run


def _depends(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and not isinstance(value, nn.Parameter)
        and value.is_floating_point()
        and value.requires_grad
        and torch.is_grad_enabled()
    )
