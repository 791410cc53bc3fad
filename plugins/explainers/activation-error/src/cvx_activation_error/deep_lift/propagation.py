"""The rescale rule of DeepLIFT: slopes between two inputs instead of derivatives at one.

A baseline input x0 is run first, and every function keeps what it saw. Then, for the input x,
    a function of one element has the slope (y - y0) / (x - x0),
    a product has d(ab) = (b + b0)/2 da + (a + a0)/2 db, which is exact,
    max pooling gives a rise to the cell that is highest now and a fall to the one that was.
Softmax, normalisation and attention are put together from these (`secants`, `rescaled`). Since
every step is exact, the contributions (x - x0) * g sum to S(x) - S(x0) (Shrikumar 2017,
arXiv:1704.02685, eq. 1), but for what passes functions that keep their own derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cvx_activation_error.deep_lift.rules import RESCALED
from cvx_core import MethodError
from cvx_core.images import check_baseline, make_baseline
from cvx_core.recording import Backward, Call, Passage, Propagation, SavedTensors, any_active

if TYPE_CHECKING:
    from cvx_core.models import VisionModel


@dataclass(frozen=True)
class Rescale(Propagation):
    """The rescale rule, with a baseline of `cvx_core.images.baselines.BASELINES`."""

    baseline: str = "zero"

    def __post_init__(self) -> None:
        check_baseline(self.baseline)

    def begin(self, model: VisionModel, saved: SavedTensors, *, at_input: bool) -> Passage:  # noqa: ARG002
        """Return the rules of one recording."""
        return _Comparison(self.baseline, saved)


class _Comparison(Passage):
    def __init__(self, name: str, saved: SavedTensors) -> None:
        self.name = name
        self.saved = saved
        self.comparing = False
        self._kept: list[tuple[str, Any]] = []
        self._next = 0
        self.table: Mapping[str, Callable[[Call], Any]] = {
            key: self._paired(rule) for key, rule in RESCALED.items()
        }

    def baseline_inputs(self, inputs: Tensor) -> Tensor:
        """Return the baseline inputs."""
        return make_baseline(self.name, inputs)

    def compare(self) -> None:
        """The baseline was run."""
        self.comparing = True

    def _paired(self, rule: Callable[..., Any]) -> Callable[[Call], Any]:
        """Return a rule that first keeps a call's tensors and then gets them again."""

        def run(call: Call) -> Any:
            if not self.comparing:
                entry = call.args, tuple(call.kwargs.items())
                self._kept.append((call.name, self.saved.keep(entry)))
                return call.native()
            args, kwargs = self.saved.restore(self._take(call.name))
            if not any_active((call.args, call.kwargs)):
                return call.native()
            return rule(call, Call(call.name, call.run, args, dict(kwargs), None))

        return run

    def _take(self, name: str) -> Any:
        if self._next >= len(self._kept) or self._kept[self._next][0] != name:
            raise MethodError(
                "The network runs other functions on the image than on the baseline: "
                f"{name!r} has no counterpart.",
                "Choose another baseline. Networks with gradient checkpointing can't be compared.",
            )
        self._next += 1
        return self._kept[self._next - 1][1]

    def relevance(
        self,
        logits: Tensor,
        seed: Tensor,
        node: Tensor,
        baseline: Tensor | None,
        backward: Backward,
    ) -> Tensor | None:
        """Return (a - a0) * g."""
        [gradient] = backward(logits, [node], seed)
        assert baseline is not None
        return None if gradient is None else (node.detach() - baseline) * gradient
