"""Call a model, forward and backward, and turn what goes wrong inside it into an error of ours."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cvx_core.as_found import as_found
from cvx_core.errors import CvxError, MethodError, ModelError

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


def eager() -> AbstractContextManager[object]:
    """Let compiled parts of a model run as the Python they were made from."""
    # Nothing can be compiled before this module is imported, and importing it takes seconds.
    if "torch._dynamo" in sys.modules:
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


def answer(model: VisionModel, inputs: Tensor) -> Tensor:
    """Return the logits (B, classes) of inputs (B, C, H, W), without graph.

    Raises
    ------
    ModelError
        See `run_model`.
    """
    with torch.inference_mode(False), torch.no_grad(), eager(), as_found(model.module):
        # Networks may work in place on what they are given, which inference tensors forbid.
        return model.read(run_model(model, inputs.clone() if inputs.is_inference() else inputs))


def pull_back(
    output: Tensor, nodes: Sequence[Tensor], vector: Tensor, *, twice: bool = False
) -> list[Tensor | None]:
    """Return d<vector, output> / d(node) for each node, None where there is no path.

    With `twice` the result has a graph of its own, and can be differentiated at the vector.

    Raises
    ------
    MethodError
        If the network's own backward pass fails.
    """
    try:
        return list(
            torch.autograd.grad(
                output, nodes, vector, retain_graph=True, create_graph=twice, allow_unused=True
            )
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise MethodError(
            f"The network's backward pass failed: {reason}", _way_out(reason)
        ) from error


def no_path(name: str, *, frozen: bool) -> MethodError:
    """Return the error for a place on which the model's answer does not depend."""
    return MethodError(
        f"No gradient flows from the model's answer back to {name!r}.",
        "With frozen gates nothing passes a sigmoid or softmax: return logits, not "
        "probabilities, or use gates='native'."
        if frozen
        else "The model computes under no_grad, detaches, or decides by argmax after this "
        "place; name a later layer.",
    )


def _way_out(reason: str) -> str:
    if "inplace" in reason:
        return (
            "The network overwrites in place what its gradient needs, so that it can't be trained "
            "either; write that step out of place, or name a later layer."
        )
    if "reentrant" in reason:
        return "Let the network call checkpoint(..., use_reentrant=False), or no checkpoint at all."
    return "Name a later layer, behind the function that has no gradient."
