"""Interface of propagation rules: backward passes other than the model's own and frozen gates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from cvx_core.errors import MethodError
from cvx_core.recording.rules.call import Call
from cvx_core.recording.saved_tensors import SavedTensors

if TYPE_CHECKING:
    from cvx_core.models.vision_model import VisionModel

Backward = Callable[[Tensor, Sequence[Tensor], Tensor], Sequence[Tensor | None]]
"""Function that pulls a vector at an output back to each of several nodes."""


class Propagation(ABC):
    """Set of rules for the backward pass, passed to `Requirements` as its gates.

    Make it a frozen dataclass: explainers that require equal rules share one recording.
    """

    @abstractmethod
    def begin(self, model: VisionModel, saved: SavedTensors, *, at_input: bool) -> Passage:
        """Return the rules of one recording.

        Parameters
        ----------
        model
            The model.
        saved
            Keeps tensors from being overwritten in place until the backward pass.
        at_input
            Whether the network's input is among the recorded layers.
        """


class Keeper(Protocol):
    """Keeper of the constants that functions add."""

    def find(self, name: str, run: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the constant that a call is about to add, or None."""

    def mark(self, constant: Tensor, result: Tensor, *, in_place: bool) -> Tensor:
        """Return the result, known to hold a constant from now on."""


class Passage:
    """Rules of one recording.

    Attributes
    ----------
    table
        Functions that run instead of those of the network, by name. Functions without an entry run
        as they are; `FROZEN_GATES` is a table to start from.
    constants
        Keeper of the constants that functions add, where they are recorded.
    own_constants
        Functions whose constants the rules give to `constants` themselves.
    """

    table: Mapping[str, Callable[[Call], Any]]
    constants: Keeper | None = None
    own_constants: frozenset[str] = frozenset()

    def baseline_inputs(self, inputs: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return the baseline inputs (B, C, H, W) that must be run first, or None."""
        return None

    def compare(self) -> None:
        """Compare what is run from now on with the baseline, which was run."""

    def relevance(
        self,
        logits: Tensor,  # noqa: ARG002
        seed: Tensor,  # noqa: ARG002
        node: Tensor,  # noqa: ARG002
        baseline: Tensor | None,  # noqa: ARG002
        backward: Backward,  # noqa: ARG002
    ) -> Tensor | None:
        """Return the contribution of each value of a layer to <seed, logits>, laid out as `node`.

        Parameters
        ----------
        logits
            (B, classes), with the graph.
        seed
            (B, classes).
        node
            The recorded layer.
        baseline
            The layer's activation in the run of `baseline_inputs`, if there was one.
        backward
            Pulls a vector back; use it instead of `torch.autograd.grad`.

        Returns
        -------
        torch.Tensor or None
            None if the logits don't depend on the layer.

        Raises
        ------
        MethodError
            If the rules only change gradients.
        """
        raise no_rules()


def no_rules() -> MethodError:
    """Return the error for relevance without rules."""
    return MethodError(
        "The recording has no rules of relevance.",
        "Pass a Propagation with the method relevance to Requirements: gates=...",
    )
