"""Conformance kit of checks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from cvx_core.explainers.base import Explainer
from cvx_core.explainers.check import VERDICTS, Check
from cvx_core.explainers.method import Attribution
from cvx_core.explainers.request import ExplainRequest
from cvx_core.explainers.runner import run
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.discovery import get_component
from cvx_core.recording.requirements import Requirements
from cvx_core.tasks.targets import ClassScore, Predicted, Target
from cvx_core.testing import models
from cvx_core.testing.kits.base import Conformance


@dataclass(frozen=True)
class _Gradient(Explainer):
    def requirements(self) -> Requirements:
        return Requirements("input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        recording = request.recording(self.requirements())
        return [
            Attribution(recording.gradient(seed, "input").sum(1))
            for seed in request.seeds(recording.logits)
        ]


class CheckConformance(Conformance):
    """Checks of a check of maps; see `Conformance` for the attributes."""

    kind: ClassVar[str] = "check"

    def check(self) -> Check:
        """Return the check under test."""
        given = dict(self.parameters)
        return get_component(self.kind, self.component, given, Check)  # type: ignore[type-abstract]

    def verdicts(self, model: VisionModel, seed: int = 0) -> list[dict[str, Any]]:
        """Return the verdicts on two images with one and two targets."""
        targets: list[list[Target]] = [[Predicted()], [ClassScore(0), ClassScore(1)]]
        found = run(
            model, models.inputs(2), [_Gradient()], targets, seed=seed, checks=[self.check()]
        )
        return [one.evidence["sanity"] for one in found]

    def test_every_map_gets_a_verdict_with_its_reason(self) -> None:
        """Which can be written as JSON."""
        found = self.verdicts(models.convolutional())
        assert len(found) == 3
        for one in found:
            assert one["verdict"] in VERDICTS
            assert one["reason"].strip()
            json.dumps(dict(one), allow_nan=False, default=dict)

    def test_the_same_seed_gives_the_same_verdicts(self) -> None:
        """The global random state plays no part, and is left alone."""
        model = models.convolutional()
        first = self.verdicts(model)
        torch.rand(3)
        before = torch.get_rng_state()
        assert self.verdicts(model) == first
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_model_is_left_as_found(self) -> None:
        """Weights, modes and hooks."""
        model = models.convolutional()
        model.module.train()
        digest = model.digest()
        self.verdicts(model)
        assert model.digest() == digest
        for module in model.module.modules():
            assert module.training
            assert not module._forward_hooks
            assert not module._forward_pre_hooks

    def test_a_map_that_was_not_checked_is_unclear_and_says_why(self) -> None:
        """As after an interruption."""
        found = self.check().unchecked(0, "the run was interrupted.")
        assert found["verdict"] == "unclear"
        assert "the run was interrupted" in found["reason"]
