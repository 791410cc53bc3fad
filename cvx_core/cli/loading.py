"""Load the model that the command line names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvx_core.errors import ModelError
from cvx_core.foreign import foreign
from cvx_core.model_source import load_model
from cvx_core.vision_model import VisionModel


def loaded_model(
    model: str,
    weights: str | Path | None,
    device: str | None,
    trust_checkpoint: bool,
    dtype: Any = None,
) -> VisionModel:
    """Return a model; what fails in foreign code is a `ModelError` that names it."""
    with foreign(lambda told: ModelError(f"The model {model!r} could not be loaded: {told}")):
        return load_model(
            model, weights=weights, device=device, dtype=dtype, trust_checkpoint=trust_checkpoint
        )
