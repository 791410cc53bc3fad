"""The model that the command line names."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from cvx_core.errors import CvxWarning, ModelError
from cvx_core.models.sources import load_model
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.isolation import error_boundary


def loaded_model(
    model: str,
    weights: str | Path | None,
    device: str | None,
    trust_checkpoint: bool,
    dtype: Any = None,
) -> VisionModel:
    """Return a model; what fails in foreign code is a `ModelError` that names it."""
    with (
        error_boundary(
            lambda reason: ModelError(f"The model {model!r} could not be loaded: {reason}")
        ),
        warnings.catch_warnings(),
    ):
        # They stand in the model's details, for commands to say in their own form.
        warnings.simplefilter("ignore", CvxWarning)
        return load_model(
            model, weights=weights, device=device, dtype=dtype, trust_checkpoint=trust_checkpoint
        )
