"""A way through the backward pass that is neither the model's own nor that of frozen gates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cvx_core.errors import MethodError
from cvx_core.recording.rules.call import Call
from cvx_core.recording.saved_tensors import Saved

if TYPE_CHECKING:
    from cvx_core.models.vision_model import VisionModel

Backward = Callable[[Tensor, Sequence[Tensor], Tensor], Sequence[Tensor | None]]
"""From an output, nodes and a vector to the vector's pullback to each node."""


class Propagation(ABC):
    """A named set of rules for the backward pass, given to `Requirements` as its gates.

    A frozen dataclass: recordings are shared by all who ask for an equal one.
    """

    @abstractmethod
    def begin(self, model: VisionModel, saved: Saved, *, at_input: bool) -> Passage:
        """Return what serves one recording; `at_input` if it records the network's input."""


class Passage:
    """The rules of one recording.

    Attributes
    ----------
    table
        What runs instead of a function, by the function's name.
    """

    table: Mapping[str, Callable[[Call], Any]]

    def compared_with(self, inputs: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return the reference inputs (B, C, H, W) that must be run first, or None."""
        return None

    def compare(self) -> None:
        """Compare what is run from now on with the reference, which was run."""

    def relevance(
        self,
        logits: Tensor,  # noqa: ARG002
        seed: Tensor,  # noqa: ARG002
        node: Tensor,  # noqa: ARG002
        reference: Tensor | None,  # noqa: ARG002
        backward: Backward,  # noqa: ARG002
    ) -> Tensor | None:
        """Return what each value at a place contributes to <seed, logits>, laid out as `node`.

        None where the logits don't depend on it.

        Raises
        ------
        MethodError
            If these rules change gradients and propagate no relevance.
        """
        raise no_rules()


def no_rules() -> MethodError:
    """Return the error that relevance was asked for without rules for it."""
    return MethodError("No rules were recorded with.", "Pass gates=Relevance(...) to Needs.")


class Mixed(torch.autograd.Function):
    """Has a given value; its derivative with respect to each term is a given slope.

    Called with ``(value,)``, a tuple of slopes (None is 1), and the terms.
    """

    @staticmethod
    def forward(ctx: Any, value: Any, slopes: Any, *terms: Tensor) -> Tensor:  # noqa: ARG004, D102
        ctx.save_for_backward(*slopes)
        # A tensor of its own: what is returned here becomes part of the graph.
        result: Tensor = value[0].detach()
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # noqa: D102
        # The network's functions may still be intercepted, for parts that are computed again.
        with torch._C.DisableTorchFunction():
            return None, None, *(grad if s is None else grad * s for s in ctx.saved_tensors)


def is_mixed(node: Any) -> bool:
    """Whether a node of the graph belongs to `Mixed`."""
    return type(node).__name__ == "MixedBackward"


def nearest(start: Any) -> list[Any]:
    """Return the nodes of `Mixed` that can be reached in the graph without passing another."""
    found, seen, stack = [], set(), [start]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if is_mixed(node):
            found.append(node)
        else:
            stack += [after for after, _ in node.next_functions]
    return found


def reaches(start: Any) -> bool:
    """Whether a node of `Mixed` can be reached in the graph."""
    return any(map(is_mixed, _before(start)))


def from_input(x: Tensor) -> Tensor | None:
    """Return which values of a tensor depend on the recorded place, laid out as x; None for all.

    What does not, such as zeros that were padded, is not the input's: J r is zero there, J being
    the derivative with respect to the place and r random.
    """
    leaves = [node.variable for node in _before(x.grad_fn) if hasattr(node, "variable")]
    if not leaves:
        return None
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        vector = torch.zeros_like(x, requires_grad=True)
        pulled = torch.autograd.grad(x, leaves, vector, create_graph=True, allow_unused=True)
    found = torch.zeros_like(x, dtype=torch.bool)
    for one in pulled:
        if one is None or not one.requires_grad:
            continue
        noise = torch.rand(one.shape, generator=generator).to(one) + 0.5
        [pushed] = torch.autograd.grad(one, vector, noise, retain_graph=True, allow_unused=True)
        if pushed is not None:
            found |= pushed != 0
    return None if bool(found.all()) else found


def _before(start: Any) -> Iterator[Any]:
    """Yield a node of the graph, and all that it was made from."""
    seen, stack = set(), [start]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        yield node
        seen.add(node)
        stack += [after for after, _ in node.next_functions]
