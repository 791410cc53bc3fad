"""A way through the backward pass that is neither the model's own nor that of frozen gates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cvx_core.errors import MethodError
from cvx_core.recording.rules.call import Call
from cvx_core.recording.saved_tensors import SavedTensors

if TYPE_CHECKING:
    from cvx_core.models.vision_model import VisionModel

Backward = Callable[[Tensor, Sequence[Tensor], Tensor], Sequence[Tensor | None]]
"""From an output, nodes and a vector to the vector's pullback to each node."""


class Propagation(ABC):
    """A named set of rules for the backward pass, given to `Requirements` as its gates.

    A frozen dataclass: recordings are shared by all who ask for an equal one.
    """

    @abstractmethod
    def begin(self, model: VisionModel, saved: SavedTensors, *, at_input: bool) -> Passage:
        """Return what serves one recording; `at_input` if it records the network's input."""


class Passage:
    """The rules of one recording.

    Attributes
    ----------
    table
        What runs instead of a function, by the function's name.
    """

    table: Mapping[str, Callable[[Call], Any]]

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
