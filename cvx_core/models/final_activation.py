"""Final activation of a network: whether it returns logits, or probabilities made of them.

Where a network ends in a softmax or sigmoid, its task reads what goes into it. That is exact, where
the inverse of a saturated probability is not, and gradients pass no gate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from cvx_core.errors import ModelError
from cvx_core.tasks.base import Task
from cvx_core.tasks.catalogue import installed_tasks

ACTIVATIONS = ("softmax", "sigmoid")

_VIEWS = {
    *("flatten", "view", "reshape", "squeeze", "unsqueeze", "permute", "transpose", "contiguous"),
    *("__getitem__", "to", "float", "double", "__get__", "size", "dim", "t"),
}
_PRODUCTS = {"mul", "__mul__", "__rmul__", "multiply", "div", "__truediv__"}
_SQUASHING = {
    *ACTIVATIONS,
    *("sigmoid_", "softmax_", "hardsigmoid", "hardtanh", "clamp", "clip", "clamp_", "tanh", "exp"),
}
_LINEAR = {
    *("linear", "addmm", "matmul", "bmm", "baddbmm", "mm", "conv2d", "einsum", "add", "__add__"),
    *("mean", "sum", "avg_pool2d", "adaptive_avg_pool2d", "max_pool2d", "interpolate"),
    *("layer_norm", "batch_norm"),
}
_SIGNED = {"tanh", "softsign"}


class FinalActivation(TorchFunctionMode):
    """Finds the activation that makes a network's output, while the network runs.

    Attributes
    ----------
    unclear
        Whether the output may be probabilities that no final activation shows: something squashed
        values on the way, and the last function, but for those that only change the shape or the
        scale, is neither linear nor has negative values; or nothing was seen, as in a scripted
        network.
    """

    def __init__(self) -> None:
        super().__init__()
        self._producer = ""
        self._squashed = False
        self._last: tuple[str, Tensor, Tensor, Any] | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function, and note what it is."""
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in ACTIVATIONS and args and isinstance(out, Tensor):
            dim = args[1] if len(args) > 1 else (kwargs or {}).get("dim")
            self._last = (name, args[0], out, dim)
        # Single numbers are temperatures and their like, computed beside the scores; nothing is what
        # torch.no_grad() returns where it ends.
        if out is None or (isinstance(out, Tensor) and out.numel() == 1):
            return out
        self._squashed |= name in _SQUASHING
        if name not in _VIEWS and not _is_scaling(name, args):
            self._producer = name
        return out

    @property
    def unclear(self) -> bool:
        """Whether the output may be probabilities."""
        return not self._producer or (self._squashed and self._producer not in _LINEAR | _SIGNED)

    def found(self, output: Any) -> tuple[str, Callable[[Tensor], Tensor]] | None:
        """Return the activation that an output comes from, and a function that undoes it.

        The function maps the output's tensor to the activation's input, and any other to itself.
        """
        if self._last is None:
            return None
        name, before, after, dim = self._last
        if before.shape != after.shape:
            return None
        for one in tree_leaves(output):
            own = isinstance(one, Tensor) and (one is after or one._base is after)
            if own and one.numel() == after.numel() and one.is_contiguous():
                along = dim in (1, 1 - after.ndim) or dim is None
                if name == "softmax" and not along:
                    return None
                return name, partial(_exchange, one, before)
        return None


def _is_scaling(name: str, args: Any) -> bool:
    """Whether a function multiplies or divides by one number, such as a temperature."""
    numbers = (not isinstance(one, Tensor) or one.ndim == 0 or one.numel() == 1 for one in args)
    return name in _PRODUCTS and any(numbers)


def _exchange(old: Tensor, new: Tensor, tensor: Any) -> Any:
    return new.reshape(old.shape) if tensor is old else tensor


def check_activation(found: str, task: Task) -> None:
    """Refuse the final activation of a network that is not that of its task.

    Raises
    ------
    ModelError
        Naming the task that has it.
    """
    if found == task.activation:
        return
    others = [one.name for one in installed_tasks() if one.activation == found]
    way = f"Pass task={others[0]!r} if the {found} is meant, or" if others else "Pass"
    raise ModelError(
        f"The network ends in a {found}, and the probabilities of {task} are a {task.activation}.",
        f"{way} activation={found!r} to explain the logits before it as {task}.",
    )


def check_range(scores: Tensor) -> None:
    """Refuse scores that may be probabilities as well as logits.

    Parameters
    ----------
    scores
        (B, C, ...).

    Raises
    ------
    ModelError
        If all lie in [0, 1].
    """
    if scores.is_meta or scores.shape[1] < 2:
        return
    low, high = torch.aminmax(scores.detach())
    if not (low >= 0 and high <= 1 and low < high):  # also where they are nan
        return
    raise ModelError(
        f"The model returned values in [0, 1] ({float(low):.3g} to {float(high):.3g}): "
        "probabilities or logits.",
        "Return logits from the model; or say what they are: VisionModel(..., "
        "activation='sigmoid') or 'softmax' for probabilities, activation='none' for logits.",
    )


def logits_of(scores: Tensor, activation: str) -> Tensor:
    """Return the logits of probabilities, by the inverse of their activation.

    Parameters
    ----------
    scores
        Probabilities (B, C, ...), in [0, 1].
    activation
        One of `ACTIVATIONS`.
    """
    tiny = torch.finfo(scores.dtype).tiny
    logs = scores.clamp_min(tiny).log()
    return logs if activation == "softmax" else logs - (1 - scores).clamp_min(tiny).log()
