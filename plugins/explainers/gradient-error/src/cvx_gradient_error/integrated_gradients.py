"""Integrated gradients: the mean gradient on the path from a baseline to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, OptionError, Requirements, TargetRecord
from cvx_core.images import check_baseline, make_baseline
from cvx_gradient_error.path_integral import Evaluate, integrate


@dataclass(frozen=True)
class IntegratedGradients(Explainer):
    """sum_c (x_c - x'_c) times the mean of dS/dx_c from x' to x; it sums to S(x) - S(x').

    Sundararajan 2017, arXiv:1703.01365, eq. 1. Signed, in logits. For the target ``Error(label)``
    S is the loss itself.

    Parameters
    ----------
    steps
        Limit of gradients along the path.
    tolerance
        Relative residual at which the integration stops.
    baseline
        x': ``"zero"``, ``"mean"`` or ``"blur"``; see `cvx_core.images.make_baseline`.

    Raises
    ------
    OptionError
        If a parameter is out of its range.
    """

    steps: int = 64
    tolerance: float = 0.01
    baseline: str = "zero"

    def __post_init__(self) -> None:
        check_baseline(self.baseline)
        if not isinstance(self.steps, int) or not 2 <= self.steps <= 1000:
            raise OptionError(f"steps must be an integer from 2 to 1000, got {self.steps!r}.")
        if not 0 <= self.tolerance < 1:
            raise OptionError(f"tolerance must be at least 0 and below 1, got {self.tolerance!r}.")

    def requirements(self) -> Requirements:
        """Require the logits."""
        return Requirements()

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        logits = request.recording(self.requirements()).logits
        records = request.records(logits)
        return [
            self._path(request, seeds, [several[min(k, len(several) - 1)] for several in records])
            for k, seeds in enumerate(request.seeds(logits))
        ]

    def _path(
        self, request: ExplainRequest, seeds: Tensor, records: Sequence[TargetRecord]
    ) -> Attribution:
        """Integrate each image by itself, with its own refinement."""
        inputs = request.inputs
        baselines = make_baseline(self.baseline, inputs)
        found = [
            integrate(
                _scalar(request, seed, record),
                x,
                baseline,
                tolerance=self.tolerance,
                most=self.steps,
            )
            for x, baseline, seed, record in zip(inputs, baselines, seeds, records, strict=True)
        ]
        return Attribution(
            torch.stack([one.values.sum(dim=0) for one in found]),
            evidence={
                "total": torch.tensor([one.total for one in found], dtype=torch.float64),
                "residual": torch.tensor([one.residual for one in found], dtype=torch.float64),
                "path_gradients": torch.tensor([one.points for one in found]),
            },
            provenance={"layer": "input", "baseline": self.baseline},
        )


def _scalar(request: ExplainRequest, seed: Tensor, record: TargetRecord) -> Evaluate:
    """Return the integrand: the loss for the error signal, otherwise <seed, logits>."""
    label = record.label.index if record.kind == "error" and record.label is not None else None

    def evaluate(points: Tensor) -> tuple[Tensor, Tensor]:
        with request.with_inputs(points) as asked:
            recording = asked.recording(Requirements("input"))
            logits = recording.logits.detach()
            if label is None:
                scalars, at = logits.double() @ seed.double(), seed.expand_as(logits)
            else:
                # The gradient of the loss, p - 1_y, differs at every point of the path.
                truth = torch.full((len(points),), label, device=logits.device)
                scalars = F.cross_entropy(logits.double(), truth, reduction="none")
                at = logits.softmax(1) - F.one_hot(truth, logits.shape[1])
            return scalars, recording.gradients(at, "input")[0]

    return evaluate
