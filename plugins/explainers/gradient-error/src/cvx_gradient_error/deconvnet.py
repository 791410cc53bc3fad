"""Deconvnet and guided backpropagation: modified gradients of ReLU, with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, MethodError, Requirements, VisionModel
from cvx_core.recording import Call, Passage, Propagation, SavedTensors, argument, graph_nodes

_FAILS = (
    "{} fails sanity checks: its maps show the image's edges, for any class and any "
    "weights (Adebayo 2018, arXiv:1810.03292; Nie 2018, arXiv:1805.07039). Don't "
    "draw conclusions about the network from them."
)


@dataclass(frozen=True)
class _ModifiedGradient(Explainer):
    """A gradient that is modified at every ReLU."""

    signed = False
    unit = "logits per unit of input"
    keep_mask: ClassVar[bool]
    title: ClassVar[str]

    def requirements(self) -> Requirements:
        """Require the input, with a modified gradient of ReLUs."""
        return Requirements("input", gates=PositiveOnly(self.keep_mask))

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        recording = request.recording(self.requirements())
        if not recording.has_gradient:
            raise recording.no_path("input")
        nodes = graph_nodes(recording.logits.grad_fn)
        relus = sum(type(node).__name__ == "_OnlyPositiveBackward" for node in nodes)
        if not relus:
            raise MethodError(
                f"{request.model.name} has no ReLU, so that {self.title} would be its plain "
                "gradient.",
                "Use saliency or smoothgrad.",
            )
        warning = _FAILS.format(self.title[0].upper() + self.title[1:])
        _warn_once(warning)
        return [
            Attribution(
                recording.gradients(seed, "input")[0].abs().amax(dim=1),
                {"relus": relus, "warning": warning},
                {"layer": "input"},
            )
            for seed in request.seeds(recording.logits)
        ]


class GuidedBackprop(_ModifiedGradient):
    """The gradient without negative values behind ReLUs (Springenberg 2015, arXiv:1412.6806).

    At every ReLU the gradient passes only where it and the ReLU's input are positive. The map is
    the largest absolute value over the channels. **It fails sanity checks**, and its evidence says
    so.

    Raises
    ------
    MethodError
        If the network has no ReLU, so that it would be the plain gradient.
    """

    keep_mask = True
    title = "guided backpropagation"


class Deconvnet(_ModifiedGradient):
    """The gradient where ReLUs rectify the gradient itself (Zeiler and Fergus 2014).

    At every ReLU the gradient passes only where it is positive, whatever the ReLU's input was
    (arXiv:1311.2901). The map is the largest absolute value over the channels. **It fails sanity
    checks**, and its evidence says so.

    Raises
    ------
    MethodError
        If the network has no ReLU, so that it would be the plain gradient.
    """

    keep_mask = False
    title = "the deconvnet"


@cache
def _warn_once(warning: str) -> None:
    # Python's own "once" starts again whenever any library touches the filters.
    warnings.warn(warning, stacklevel=2)


@dataclass(frozen=True)
class PositiveOnly(Propagation):
    """Gradient of ReLU, relu6 or clamp at zero without negative values.

    Parameters
    ----------
    keep_mask
        Whether the ReLU's own gradient, zero where its input was negative, counts too.
    """

    keep_mask: bool

    def begin(self, model: VisionModel, saved: SavedTensors, *, at_input: bool) -> Passage:  # noqa: ARG002
        """Return the rules."""
        return _Rectifying(self.keep_mask)


class _Rectifying(Passage):
    def __init__(self, keep_mask: bool) -> None:
        self.keep_mask = keep_mask
        self.table: Mapping[str, Callable[[Call], Any]] = dict.fromkeys(
            ("relu", "relu6", "hardtanh", "clamp", "clip", "clamp_min"), self._rectify
        )

    def _rectify(self, call: Call) -> Any:
        x = argument(call, 0, "input")
        if not x.requires_grad or not _is_relu(call):
            return call.native()
        if self.keep_mask:
            y = call.native()
            return _OnlyPositive.apply(y, y.detach())
        return _OnlyPositive.apply(x, call.native_detached())


def _is_relu(call: Call) -> bool:
    """Whether a function clips at zero, and at most at a constant above."""
    if call.name in ("relu", "relu6"):
        return True
    low = argument(call, 1, "min_val" if call.name == "hardtanh" else "min", -1.0)
    return not isinstance(low, Tensor) and low == 0


class _OnlyPositive(torch.autograd.Function):
    """Identity with a given value, whose gradient is rectified."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:  # noqa: ARG004
        return y.clone()  # the network may modify it in place

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return grad.clamp_min(0), None
