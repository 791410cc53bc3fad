"""Raw outputs of a model for a batch, and how tensors are found in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cvx_core.images.regions import Frame
from cvx_core.tasks.detection.candidates import DetectionCandidates

if TYPE_CHECKING:
    from cvx_core.tasks.prediction import Prediction


Readout = Callable[[Any], torch.Tensor | DetectionCandidates]
"""Takes what the model returned and gives its scores, with their graph."""


_NAMES = ("logits", "out", "scores", "prediction")


def _named(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _find(output: Any) -> torch.Tensor | None:
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        named = [output[name] for name in _NAMES if name in output]
        return _first_tensor(named or list(output.values()))
    for name in _NAMES:
        if isinstance(getattr(output, name, None), torch.Tensor):
            found: torch.Tensor = getattr(output, name)
            return found
    if isinstance(output, tuple | list):
        return _first_tensor(output)
    return None


def _first_tensor(items: Any) -> torch.Tensor | None:
    return next((item for item in items if isinstance(item, torch.Tensor)), None)


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """A model's answer for a batch.

    Attributes
    ----------
    scores
        (B, C) logits of a classifier, or (B, C, h, w) of a segmenter, or (B, M, C) of a detector's
        candidates.
    candidates
        The detector's, or None.
    """

    scores: Tensor
    candidates: DetectionCandidates | None = None

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.scores.shape[2 if self.candidates is not None else 1]

    @property
    def named(self) -> int:
        """How many of the classes have names: all but a last one that means "nothing there"."""
        candidates = self.candidates
        last = candidates is not None and candidates.background == self.classes - 1
        return self.classes - last

    @property
    def flat(self) -> Tensor:
        """All outputs (B, N), with their graph: what seeds are vectors over."""
        if self.candidates is None:
            return self.scores.flatten(1)
        parts = (self.scores, self.candidates.boxes.to(self.scores.dtype))
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def detached(self) -> ModelOutput:
        """Return the reading without its graph."""
        if self.candidates is None:
            return ModelOutput(self.scores.detach())
        logits, boxes = self.candidates.logits.detach(), self.candidates.boxes.detach()
        candidates = replace(self.candidates, logits=logits, boxes=boxes)
        return ModelOutput(candidates.logits, candidates)

    def predictions(
        self, classes: Sequence[str] | None, frames: Sequence[Frame]
    ) -> list[Prediction]:
        """Return the answer for each image, which targets are resolved against."""
        from cvx_core.tasks.classification.prediction import ClassificationPrediction
        from cvx_core.tasks.detection.prediction import DetectionPrediction
        from cvx_core.tasks.segmentation.prediction import SegmentationPrediction

        scores = self.scores.detach().cpu()
        if self.candidates is not None:
            found: list[Prediction] = [
                DetectionPrediction.of(self.candidates, i, classes, frame)
                for i, frame in enumerate(frames)
            ]
        elif scores.ndim == 4:
            found = [
                SegmentationPrediction(one.double().numpy(), classes, frame)
                for one, frame in zip(scores, frames, strict=True)
            ]
        else:
            found = [ClassificationPrediction(one.double().numpy(), classes) for one in scores]
        return found
