"""Call a model, and turn what goes wrong inside it into an error of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cvx_core.errors import CvxError, ModelError

if TYPE_CHECKING:
    from cvx_core.vision_model import VisionModel


def run_model(model: VisionModel, inputs: Tensor) -> Any:
    """Return what the module returns for inputs (B, C, H, W).

    Raises
    ------
    ModelError
        If it raises. Running out of memory passes through, so that the batch can be halved.
    """
    try:
        return model.module(inputs)
    except (torch.OutOfMemoryError, MemoryError, CvxError):
        raise
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError, KeyError) as error:
        raise ModelError(
            f"{model.name} failed on an input of shape {tuple(inputs.shape)} "
            f"({str(inputs.dtype).removeprefix('torch.')}, {inputs.device}): "
            f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            "Check that the input has the size, channels and dtype that the network expects.",
        ) from error
