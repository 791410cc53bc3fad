"""Call a model, and turn what goes wrong inside it into an error of ours."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cvx_core.errors import CvxError, ModelError
from cvx_core.models.evaluation_mode import evaluation_mode

if TYPE_CHECKING:
    from cvx_core.models.vision_model import VisionModel
    from cvx_core.tasks.outputs import ModelOutput


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
    # The boundary to the user's network, which may raise anything, and exit.
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{model.name} failed on an input of shape {tuple(inputs.shape)} "
            f"({str(inputs.dtype).removeprefix('torch.')}, {inputs.device}): "
            f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            "Check that the input has the size, channels and dtype that the network expects.",
        ) from error


def version(tensor: Tensor) -> int:
    """Return a number that changes whenever a tensor is worked on in place."""
    # Tensors made under inference_mode have none, and can't change outside it.
    return 0 if tensor.is_inference() else tensor._version


def eager() -> AbstractContextManager[object]:
    """Let compiled parts of a model run as the Python they were made from."""
    # Nothing can be compiled before this module is imported, and importing it takes seconds.
    if "torch._dynamo" in sys.modules:
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


def reading(model: VisionModel, inputs: Tensor) -> ModelOutput:
    """Return a model's answer for inputs (B, C, H, W), without graph.

    Raises
    ------
    ModelError
        See `run_model`.
    """
    with torch.inference_mode(False), torch.no_grad(), eager(), evaluation_mode(model.module):
        # Networks may work in place on what they are given, which inference tensors forbid.
        inputs = inputs.clone() if inputs.is_inference() else inputs
        return model.reading(run_model(model, inputs))


def answer(model: VisionModel, inputs: Tensor) -> Tensor:
    """Return all outputs (B, N) for inputs (B, C, H, W), without graph; see `reading`."""
    return reading(model, inputs).flat
