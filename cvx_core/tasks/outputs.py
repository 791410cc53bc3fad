"""Raw outputs of a model for a batch, and how tensors are found in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Readout = Callable[[Any], Any]
"""From what the model returned to what its task parses: scores or candidates, with their graph."""


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
    """Parsed output of a model for a batch.

    Attributes
    ----------
    scores
        (B, C) logits of a classifier, or (B, C, h, w) of a segmenter, or (B, M, C) of a detector's
        candidates.
    """

    scores: Tensor

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.scores.shape[1]

    @property
    def named(self) -> int:
        """How many of the classes have names."""
        return self.classes

    @property
    def flat(self) -> Tensor:
        """All outputs (B, N), with their graph: what seeds are vectors over."""
        return self.scores.flatten(1)

    def detached(self) -> ModelOutput:
        """Return the output without its graph."""
        return ModelOutput(self.scores.detach())
