"""What is found out about an error, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cvx_core import Explanation, Metadata
from cvx_core.tasks import ClassEntry

SCHEMA = "cvx.why/1"
FILES = ("index.html", "maps.html", "blame.png", "contrast.png", "why.json")
"""What `ErrorReport.save` writes."""


@dataclass(frozen=True)
class Removal:
    """What became of an error when a region was removed.

    Attributes
    ----------
    change
        Of the margin, in logits; negative helps.
    right
        Whether the answer was right without it.
    note
        What was answered then.
    """

    change: float
    right: bool
    note: str = ""


@dataclass(frozen=True, eq=False)
class RegionReport:
    """A region that was looked into.

    Attributes
    ----------
    mask
        bool (H, W) over the network's input. Read-only.
    box
        (left, top, right, bottom) around it, in pixels of the photograph.
    share
        Of the input's pixels, in [0, 1].
    predicted
        Change of the margin that the contrast map predicts, in logits.
    removals
        By fill, what was measured.
    disagreement
        Largest difference between the changes of two fills, in logits.
    verdict
        ``verified``: under every fill, two or more, the margin fell by half or more, or the wrong
        answer became right. ``partly``: under most fills it fell by a fifth or more.
        ``not verified``: neither; the region is not blamed.
    """

    mask: npt.NDArray[np.bool_]
    box: tuple[float, float, float, float]
    share: float
    predicted: float
    removals: Mapping[str, Removal]
    disagreement: float
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Return the region as JSON values, without its mask."""
        return {
            "box": list(self.box),
            "share": self.share,
            "verdict": self.verdict,
            "predicted": self.predicted,
            "disagreement": self.disagreement,
            "removals": {name: vars(one) for name, one in self.removals.items()},
        }


@dataclass(frozen=True, eq=False)
class FixFound:
    """The smallest region found without which the answer is right; it was run again to be sure.

    Attributes
    ----------
    mask
        bool (H, W) over the network's input. Read-only.
    box, share
        As of a `RegionReport`.
    fill
        What took its place.
    change
        Of the margin, in logits.
    note
        What was answered then.
    inputs
        float32 (C, H, W), the network's input without the region, for running it yourself.
    """

    mask: npt.NDArray[np.bool_]
    box: tuple[float, float, float, float]
    share: float
    fill: str
    change: float
    note: str
    inputs: npt.NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """Return the fix as JSON values, without mask and inputs."""
        return {
            "box": list(self.box),
            "share": self.share,
            "fill": self.fill,
            "change": self.change,
            "note": self.note,
        }


@dataclass(frozen=True, eq=False)
class ReportData:
    """Why an answer is wrong, with what was tested.

    Attributes
    ----------
    name, model
        Of the image and the network.
    type
        What kind of error it is; ``"right"`` where there is none, and then nothing is blamed.
    question
        What was asked, as in ``why power drill rather than screwdriver?``.
    predicted, true
        What was answered and what is there; None where there is no such thing.
    loss, margin
        Cross-entropy in nats, and by how much the answer is wrong, in logits.
    regions
        Those that were looked into, the most helpful first; none where no removal stands out.
    usual
        By how much the margin changes, in the middle, without regions of the same shape elsewhere
        (without squares elsewhere, where nothing came into question), in logits: the yardstick.
    fix
        The smallest region found without which the answer is right, or None.
    contrast
        The mean of the margin maps, logits per pixel: predicted against true.
    blame
        The map of blame, logits per pixel, 0 or more, from the removals. Its sum over a blamed
        region is what the margin fell without it; it is zero if no region is blamed.
    passes, backwards, budget
        Images that went through the network, how many of them backwards too, and how many
        might have.
    additions
        What had to be taken from the reference image to make the answer right, if one was given.
    profile
        The layer profile, by layer, if it was asked for.
    """

    name: str
    model: str
    type: str
    request: str
    predicted: ClassEntry | None
    true: ClassEntry | None
    loss: float
    margin: float
    regions: tuple[RegionReport, ...]
    usual: float
    fix: FixFound | None
    contrast: Explanation
    blame: Explanation
    passes: int
    backwards: int
    budget: int
    additions: Mapping[str, Any] | None = None
    profile: tuple[Metadata, ...] = field(default=())

    @property
    def blamed(self) -> tuple[RegionReport, ...]:
        """The regions whose verdict is ``verified`` or ``partly``."""
        return tuple(one for one in self.regions if one.verdict != "not verified")

    @property
    def unseen(self) -> float:
        """Share of the photograph, in [0, 1], that preprocessing cut off."""
        left, top, right, bottom = self.blame.extent
        height, width = self.blame.image.shape[:2]
        across = max(0.0, min(right, width) - max(left, 0))
        down = max(0.0, min(bottom, height) - max(top, 0))
        return float(1 - across * down / (height * width))

    @property
    def explanations(self) -> list[Explanation]:
        """The map of blame and the contrast map, for any renderer."""
        return [self.blame, self.contrast]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, without maps, masks and pixels."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "model": self.model,
            "type": self.type,
            "question": self.request,
            "predicted": vars(self.predicted) if self.predicted else None,
            "true": vars(self.true) if self.true else None,
            "loss": self.loss,
            "margin": self.margin,
            "regions": [one.to_dict() for one in self.regions],
            "usual_change": self.usual,
            "fix": self.fix.to_dict() if self.fix else None,
            "unseen": self.unseen,
            "passes": self.passes,
            "backwards": self.backwards,
            "budget": self.budget,
            "additions": dict(self.additions) if self.additions is not None else None,
            "profile": [row.to_dict() for row in self.profile],
        }
