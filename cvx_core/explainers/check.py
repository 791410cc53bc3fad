"""Contract of checks, which test whether maps can be believed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from cvx_core.errors import UsageError, install_command
from cvx_core.explainers.method import Attribution, Method
from cvx_core.explainers.request import ExplainRequest
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.discovery import registry
from cvx_core.plugins.parameters import build

Attributed = tuple[Method, ExplainRequest, list[Attribution]]
"""An explainer, its request, and the attributions that it returned."""

VERDICTS = ("passes", "unclear", "fails")
"""From the most to the least favourable."""


class Check(ABC):
    """Test of maps against a control; the verdict becomes part of their evidence."""

    @abstractmethod
    def check(
        self, model: VisionModel, attributed: Sequence[Attributed], seed: int
    ) -> list[list[dict[str, Any]]]:
        """Return a verdict for each map: by image, then explainer, then target.

        Each has at least ``verdict`` (``"passes"``, ``"unclear"`` or ``"fails"``) and ``reason``.

        Parameters
        ----------
        model
            The model; it is left as found.
        attributed
            Explainers and their attributions for one batch of images.
        seed
            Of all randomness.
        """

    @abstractmethod
    def unchecked(self, seed: int, reason: str) -> dict[str, Any]:
        """Return the verdict ``"unclear"`` for a map that was not checked."""


def installed_checks() -> list[Check]:
    """Return all installed checks.

    Raises
    ------
    UsageError
        If there is none.
    """
    found = registry()
    checks = [build("check", offer.component, {}) for offer in found.offers("check")]
    if not checks:
        raise UsageError("No check is installed.", f"Install one: {install_command('cvx-score')}")
    return checks


def worst(verdicts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the least favourable of several verdicts, the first of equal ones."""
    return max(verdicts, key=lambda one: VERDICTS.index(one["verdict"]))
