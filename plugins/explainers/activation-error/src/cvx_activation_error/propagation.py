"""Base of the propagation methods: one backward pass, a map, and its balance."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, Requirements
from cvx_core.recording import Propagation, relevance


@dataclass(frozen=True)
class Propagated(Explainer):
    """A map of relevance, the sum over channels of what each value at a layer contributes.

    Its sum, what other tokens carry and what biases and stabilisers absorb make the total.
    """

    layer: str = "input"

    conserves: ClassVar[bool] = False
    """Whether nothing but rounding may be missing from the total."""

    def __post_init__(self) -> None:
        self.rules()

    @abstractmethod
    def rules(self) -> Propagation:
        """Return the rules of the backward pass."""

    def total(self, seed: Tensor, logits: Tensor, baseline: Tensor | None) -> Tensor:
        """Return what is to be shared out, (B,)."""
        del baseline
        return (seed * logits).double().sum(1)

    def requirements(self) -> Requirements:
        """Ask for the layer with these rules."""
        return Requirements(self.layer, gates=self.rules())

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, h, w)."""
        recording = request.recording(self.requirements())
        place, logits = recording.layer(self.layer), recording.logits.detach()
        found = []
        for seed in request.seeds(logits):
            values_at = relevance(recording, seed, self.layer)
            values = place.positions(values_at).sum(dim=1)
            evidence = self._evidence(
                self.total(seed, logits, recording.baseline_logits),
                values.double().sum(dim=(1, 2)),
                place.other_tokens(values_at).double().sum(dim=(1, 2)),
            )
            where = {"layer": place.name, "layer_reason": place.reason}
            found.append(Attribution(values, evidence, where))
        return found

    def _evidence(self, total: Tensor, cells: Tensor, others: Tensor) -> dict[str, Any]:
        evidence: dict[str, Any] = {"total": total, "other_tokens": others}
        missing = total - cells - others
        if self.conserves:
            largest = torch.maximum(total.abs(), (cells + others).abs())
            evidence["residual"] = missing.abs() / largest.clamp_min(1e-300)
        else:
            evidence["absorbed"] = missing
        elsewhere = others.abs() + missing.abs()
        evidence["non_pixel_share"] = elsewhere / (elsewhere + cells.abs()).clamp_min(1e-300)
        return evidence
