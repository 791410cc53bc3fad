"""The model's own gradient, by way of functions that can be differentiated twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core import MethodError
from cvx_core.recording import (
    Call,
    Passage,
    Propagation,
    Recording,
    SavedTensors,
    argument,
    attention_in_steps,
)

if TYPE_CHECKING:
    from cvx_core.models import VisionModel


@dataclass(frozen=True)
class Twice(Propagation):
    """Gates for a recording that is to be pushed through.

    PyTorch has no second derivative of fused attention and of hardsigmoid: they are computed in
    steps that have one, with the same values up to rounding.
    """

    def begin(self, model: VisionModel, saved: SavedTensors, *, at_input: bool) -> Passage:  # noqa: ARG002
        """Return the functions that are exchanged."""
        return _Exchanged()


class _Exchanged(Passage):
    def __init__(self) -> None:
        self.table: Mapping[str, Callable[[Call], Any]] = {
            "scaled_dot_product_attention": attention_in_steps,
            "hardsigmoid": _hardsigmoid,
        }


def _hardsigmoid(call: Call) -> Tensor:
    return F.hardtanh(argument(call, 0, "input") / 6 + 0.5, 0.0, 1.0)


def push(recording: Recording, vector: Tensor, *, at: str, to: str) -> Tensor:
    """Push a vector at one place forward to a later one: J v, the counterpart of `pull`.

    J^T u is linear in u, so its own derivative is J; hence two passes backward. Record with
    ``gates=Twice()``: some functions have no second derivative as PyTorch computes them.

    Parameters
    ----------
    vector
        Laid out as ``raw(at)``, held constant.
    at, to
        Places that were recorded.

    Returns
    -------
    torch.Tensor
        Laid out as ``raw(to)``; zero where `to` does not depend on `at`.

    Raises
    ------
    MethodError
        If a function between the two can't be differentiated twice.
    """
    source, sink = recording.node(at), recording.node(to)
    with torch.inference_mode(False):
        dual = torch.zeros_like(sink).requires_grad_()
    [pulled] = recording.backward(sink, [source], dual, twice=True)
    if pulled is None:
        return torch.zeros_like(sink)
    [found] = recording.backward(pulled, [dual], vector) if pulled.requires_grad else [None]
    if found is None:
        raise MethodError(
            f"The part of the network between {at!r} and {to!r} can't be differentiated twice.",
            "Name a layer before the function that has a gradient of its own.",
        )
    return found.detach()
