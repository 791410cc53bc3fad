"""Forward pass of a module; its exceptions become `ModelError`."""

from __future__ import annotations

import re
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from cvx_core.errors import CvxError, ModelError
from cvx_core.plugins.isolation import describe_error


def run_module(module: nn.Module, inputs: Tensor, name: str) -> Any:
    """Return what a module returns for a copy of inputs (B, C, H, W).

    Raises
    ------
    ModelError
        If it raises. Running out of memory passes through, so that the batch can be halved.
    """
    try:
        # Networks may normalize their inputs in place, and others read the same inputs.
        return module(inputs.clone())
    except (torch.OutOfMemoryError, MemoryError, CvxError):
        raise
    # The boundary to the user's network, which may raise anything, and exit.
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{name} failed on an input of shape {tuple(inputs.shape)} "
            f"({str(inputs.dtype).removeprefix('torch.')}, {inputs.device}): "
            f"{describe_error(error)}",
            _way_out(str(error)),
        ) from error


def _way_out(reason: str) -> str:
    if "nference tensor" in reason:
        return (
            "The forward runs under torch.inference_mode, which records no gradient: use "
            "torch.no_grad, or a method that needs none, such as one that perturbs the image."
        )
    if re.search(r"Guard failed: .*size\(\)\[0\]", reason):
        return (
            "The program was exported for one batch size, and cvx runs several images at once: "
            "export it with dynamic_shapes={'x': {0: torch.export.Dim('batch')}}."
        )
    if re.search(r"missing \d+ required positional argument", reason):
        return (
            "forward needs more than the image: fix the rest in a wrapper, a module with "
            "forward(self, x): return self.net(x, self.other)."
        )
    return "Check that the input has the size, channels and dtype that the network expects."


def version(tensor: Tensor) -> int:
    """Return a number that changes whenever a tensor is changed in place."""
    # Tensors made under inference_mode have none, and can't change outside it.
    return 0 if tensor.is_inference() else tensor._version


def eager() -> AbstractContextManager[object]:
    """Let compiled parts of a model run as the Python they were made from."""
    # Nothing can be compiled before this module is imported, and importing it takes seconds.
    if "torch._dynamo" in sys.modules:
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()
