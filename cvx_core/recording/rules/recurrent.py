"""Recurrent layers, computed step by step, because PyTorch's fused functions hide their gates.

Sigmoids are constants, as everywhere, and the hyperbolic tangents are gates on their own input:
what is left is linear in the sequence and in the initial state (Arras 2019, arXiv:1909.12114,
gives the whole relevance of a product with a gate to the signal in the same way).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core.recording.rules.call import Call
from cvx_core.recording.rules.elementwise import constant, gated, piecewise
from cvx_core.recording.rules.products import product

State = list[Tensor]
"""The hidden state (B, n), and of an LSTM the cell's."""

_ACTIVATIONS: dict[str, tuple[Callable[[Call], Any], Callable[..., Tensor]]] = {
    "sigmoid": (constant, torch.sigmoid),
    "tanh": (gated, torch.tanh),
    "relu": (piecewise, torch.relu),
}


def recurrent(call: Call) -> Any:
    """Compute an LSTM, a GRU or a plain recurrent layer step by step, with frozen gates.

    Packed sequences run as they are.
    """
    # Packed sequences have their batch sizes, a tensor, before the state, which shifts all others.
    if isinstance(call.args[1], Tensor) and call.name == "lstm":
        return call.native()
    if isinstance(call.args[2], Tensor):
        return call.native()
    sequence, initial, weights, has_biases, layers, _, _, both_ways, batch_first = call.args
    states = list(initial) if call.name == "lstm" else [initial]
    if batch_first:
        sequence = sequence.transpose(0, 1)
    directions = 2 if both_ways else 1
    each = len(weights) // (layers * directions)
    last: list[State] = []
    for layer in range(layers):
        ways = []
        for way in range(directions):
            number = layer * directions + way
            own = weights[number * each : (number + 1) * each]
            state = [one[number] for one in states]
            steps, state = _run(call, sequence, state, own, has_biases, backwards=way == 1)
            ways.append(steps)
            last.append(state)
        sequence = torch.cat(ways, dim=-1)
    output = sequence.transpose(0, 1) if batch_first else sequence
    return (output, *(torch.stack(several) for several in zip(*last, strict=True)))


def _run(
    call: Call,
    sequence: Tensor,
    state: State,
    weights: Sequence[Tensor],
    has_biases: bool,
    *,
    backwards: bool,
) -> tuple[Tensor, State]:
    """Run one layer in one direction over a sequence (T, B, n)."""
    of_input, of_state = weights[0], weights[1]
    biases = (weights[2], weights[3]) if has_biases else (None, None)
    rest = weights[4 if has_biases else 2 :]
    projection = rest[0] if rest else None
    inputs = F.linear(sequence, of_input, biases[0])
    steps = range(len(inputs) - 1, -1, -1) if backwards else range(len(inputs))
    found: dict[int, Tensor] = {}
    for t in steps:
        before = F.linear(state[0], of_state, biases[1])
        state = _STEPS[call.name](call, inputs[t], before, state)
        if projection is not None:
            state = [F.linear(state[0], projection), *state[1:]]
        found[t] = state[0]
    return torch.stack([found[t] for t in range(len(inputs))]), state


def _act(call: Call, name: str, x: Tensor) -> Tensor:
    rule, run = _ACTIVATIONS[name]
    found: Tensor = rule(Call(name, run, (x,), {}, call.tape))
    return found


def _times(call: Call, a: Tensor, b: Tensor) -> Tensor:
    found: Tensor = product(Call("mul", torch.mul, (a, b), {}, call.tape))
    return found


def _lstm(call: Call, given: Tensor, before: Tensor, state: State) -> State:
    enter, forget, new, leave = (given + before).chunk(4, dim=-1)
    kept = _times(call, _act(call, "sigmoid", forget), state[1])
    added = _times(call, _act(call, "sigmoid", enter), _act(call, "tanh", new))
    cell = kept + added
    return [_times(call, _act(call, "sigmoid", leave), _act(call, "tanh", cell)), cell]


def _gru(call: Call, given: Tensor, before: Tensor, state: State) -> State:
    (r, z, n), (r_before, z_before, n_before) = given.chunk(3, -1), before.chunk(3, -1)
    reset, update = _act(call, "sigmoid", r + r_before), _act(call, "sigmoid", z + z_before)
    new = _act(call, "tanh", n + _times(call, reset, n_before))
    return [_times(call, 1 - update, new) + _times(call, update, state[0])]


def _plain(activation: str) -> Callable[[Call, Tensor, Tensor, State], State]:
    def step(call: Call, given: Tensor, before: Tensor, _state: State) -> State:
        return [_act(call, activation, given + before)]

    return step


_STEPS: dict[str, Callable[[Call, Tensor, Tensor, State], State]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _plain("tanh"),
    "rnn_relu": _plain("relu"),
}
RECURRENT = tuple(_STEPS)
"""Names of the functions."""
