"""Final activation of a network: whether it returns logits, or probabilities made of them.

Where a network ends in a softmax or sigmoid, its task reads what goes into it. That is exact, where
the inverse of a saturated probability is not, and gradients pass no gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    *("__getitem__", "to", "float", "double", "__get__", "t", "split", "chunk", "unbind"),
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
    """Finds the activation that makes a network's output, while the network runs."""

    def __init__(self) -> None:
        super().__init__()
        # By storage, which views share: hooks may call functions after the network's last one.
        self._producers: dict[int, str] = {}
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
        # Single numbers are temperatures and their like, computed beside the scores.
        made = _tensors(out)
        if not made:
            return out
        self._squashed |= name in _SQUASHING
        if name in _VIEWS or _is_scaling(name, args):
            name = next((self._producers.get(_place(one), "") for one in _tensors(args)), "")
        self._producers.update(dict.fromkeys(map(_place, made), name))
        return out

    def unclear(self, output: Any) -> tuple[bool, ...]:
        """Whether each tensor of an output may be probabilities that no final activation shows.

        Something squashed values on the way, and what made the tensor, but for functions that only
        change the shape or the scale, is neither linear nor has negative values; or that was not
        seen, as in a scripted network.
        """
        found = [self._producers.get(_place(one), "") for one in _tensors(output)]
        return tuple(
            not one or (self._squashed and one not in _LINEAR | _SIGNED) for one in found
        ) or (True,)

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


def _tensors(values: Any) -> list[Tensor]:
    """Return the tensors of more than one number."""
    return [one for one in tree_leaves(values) if isinstance(one, Tensor) and one.numel() > 1]


def _place(tensor: Tensor) -> int:
    """Return the address of a tensor's storage, or its own where it has none."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return id(tensor)


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


def check_range(scores: Tensor, output: Any = (), unclear: Sequence[bool] = (True,)) -> None:
    """Refuse scores that may be probabilities as well as logits.

    Parameters
    ----------
    scores
        (B, C, ...).
    output
        What the network returned, of which the scores were read.
    unclear
        Whether each tensor in it may be probabilities. Scores that were computed of several are
        unclear where one of them is.

    Raises
    ------
    ModelError
        If all lie in [0, 1].
    """
    if scores.is_meta or scores.shape[1] < 2:
        return
    leaves = [_place(one) for one in _tensors(output)]
    if _place(scores) in leaves and len(leaves) == len(unclear):
        unclear = [unclear[leaves.index(_place(scores))]]
    if not any(unclear):
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
