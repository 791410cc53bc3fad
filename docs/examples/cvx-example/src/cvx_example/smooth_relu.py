"""Propagation rule: the derivative of ReLU made smooth, and an explainer that uses it."""

from dataclasses import dataclass
from typing import Any

import torch

from cvx_core import Attribution, Explainer, ExplainRequest, OptionError, Requirements
from cvx_core.models import VisionModel
from cvx_core.recording import Call, GivenSlopes, Passage, Propagation, SavedTensors, active


@dataclass(frozen=True)
class SmoothReluRule(Propagation):
    """The derivative of a ReLU is sigmoid(beta x) instead of a step.

    Parameters
    ----------
    beta
        Steepness; the derivative becomes ReLU's own for large values.
    """

    beta: float

    def begin(self, model: VisionModel, saved: SavedTensors, *, at_input: bool) -> Passage:  # noqa: ARG002
        """Return the rules of one recording."""
        return _Smooth(self.beta)


class _Smooth(Passage):
    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.table = {"relu": self.relu}

    def relu(self, call: Call) -> Any:
        x = call.args[0]
        if not active(x):  # depends on no recorded layer
            return call.native()
        slope = torch.sigmoid(self.beta * x.detach())
        return GivenSlopes.apply((call.native_detached(),), (slope,), x)


@dataclass(frozen=True)
class SmoothRelu(Explainer):
    """Input times a gradient that doesn't jump where a ReLU switches.

    The derivative of the softplus function replaces that of ReLU in the backward pass (Dombrowski
    et al., NeurIPS 2019, arXiv:1906.07983). The prediction stays the model's own.

    Parameters
    ----------
    beta
        Steepness of the derivative, more than 0.
    """

    beta: float = 10.0

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise OptionError(f"beta must be more than 0, got {self.beta}.")

    def requirements(self) -> Requirements:
        """Declare what to record: the input, with the rule in the backward pass."""
        return Requirements("input", gates=SmoothReluRule(self.beta))

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return one map (B, h, w) for each target."""
        recording = request.recording(self.requirements())
        x = recording.activation("input")
        return [
            Attribution((x * recording.gradient(seed, "input")).sum(1), additive=False)
            for seed in request.seeds(recording.logits)
        ]
