"""Data of a report on one mistake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cvx_core import Explanation, Metadata
from cvx_core.tasks import ClassEntry
from cvx_why.search.fix import FixReport
from cvx_why.search.preparations import Preparation
from cvx_why.search.regions import RegionReport

SCHEMA = "cvx.why/3"
FILES = ("index.html", "maps.html", "blame.png", "contrast.png", "why.json")
"""The files of a saved report."""


@dataclass(frozen=True, eq=False)
class ReportData:
    """Why a prediction is wrong, and what was tested.

    Attributes
    ----------
    name, model
        Names of the image and the model.
    type
        Type of the mistake; ``"correct"`` if there is none, and then nothing is blamed.
    target
        The target, as in ``why power drill rather than screwdriver?``.
    predicted, true
        The predicted and the true class; None if there is none.
    loss, margin
        Cross-entropy in nats, and the lead of the wrong class, in logits.
    regions
        The tested regions, the most helpful first; empty if no perturbation stands out.
    control_change
        Median decrease of the margin for regions of the same shape elsewhere, in logits.
    fix
        The smallest perturbation found that corrects the prediction, or None.
    contrast
        The activation error of the margin, logits per pixel: predicted versus true class.
    blame
        The blame map, logits per pixel, 0 or more, from measured effects. Over a blamed region it
        sums to the decrease of the margin; it is zero if no region is blamed.
    passes, backward_passes, budget
        Images in forward and backward passes, and the limit.
    spread
        Share of the image that must be filled to halve the margin, if no smaller region is blamed:
        the cause is spread over the image.
    preparations
        Other preparations of the image that correct the prediction, the largest change first.
    counterfactual
        The positions of a reference image that correct the prediction, if an image was given.
    profile
        The layer profile, by layer, if it was requested.
    """

    name: str
    model: str
    type: str
    target: str
    predicted: ClassEntry | None
    true: ClassEntry | None
    loss: float
    margin: float
    regions: tuple[RegionReport, ...]
    control_change: float
    fix: FixReport | None
    contrast: Explanation
    blame: Explanation
    passes: int
    backward_passes: int
    budget: int
    spread: float | None = None
    preparations: tuple[Preparation, ...] = ()
    counterfactual: Mapping[str, Any] | None = None
    profile: tuple[Metadata, ...] = ()

    @property
    def blamed(self) -> tuple[RegionReport, ...]:
        """The regions whose verdict is ``verified`` or ``partly``."""
        return tuple(one for one in self.regions if one.verdict != "not verified")

    @property
    def cropped(self) -> float:
        """Share of the image, in [0, 1], that preprocessing cropped."""
        left, top, right, bottom = self.blame.extent
        height, width = self.blame.image.shape[:2]
        across = max(0.0, min(right, width) - max(left, 0))
        down = max(0.0, min(bottom, height) - max(top, 0))
        return float(1 - across * down / (height * width))

    @property
    def explanations(self) -> list[Explanation]:
        """The blame map and the contrast map, for any renderer."""
        return [self.blame, self.contrast]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, without maps, masks and pixels."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "model": self.model,
            "type": self.type,
            "target": self.target,
            "predicted": vars(self.predicted) if self.predicted else None,
            "true": vars(self.true) if self.true else None,
            "loss": self.loss,
            "margin": self.margin,
            "regions": [one.to_dict() for one in self.regions],
            "control_change": self.control_change,
            "fix": self.fix.to_dict() if self.fix else None,
            "spread": self.spread,
            "cropped": self.cropped,
            "passes": self.passes,
            "backward_passes": self.backward_passes,
            "budget": self.budget,
            "preparations": [vars(one) for one in self.preparations],
            "counterfactual": None if self.counterfactual is None else dict(self.counterfactual),
            "profile": [row.to_dict() for row in self.profile],
        }
