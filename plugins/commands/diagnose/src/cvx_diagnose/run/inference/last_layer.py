"""What a classifier's last linear layer reads: the features that its answer is a linear map of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from cvx_core.models import VisionModel
    from cvx_core.tasks import ModelOutput


@dataclass(frozen=True)
class LastLinear:
    """The linear layer whose output is the answer: logits = W h + b.

    Attributes
    ----------
    name
        Of the module.
    size
        Length of h.
    """

    name: str
    size: int

    @classmethod
    def of(cls, model: VisionModel, inputs: Tensor) -> LastLinear | None:
        """Return the layer, or None if no `torch.nn.Linear` gives the answer as it is.

        Found by running one image (1, C, H, W) and comparing what every linear layer gives with the
        answer; names play no part.
        """
        return model.facts.find(lambda: _find(model, inputs[:1]), "last linear", inputs.shape[1:])

    def read(self, model: VisionModel, inputs: Tensor) -> tuple[ModelOutput, Tensor]:
        """Return the answer for inputs (B, C, H, W) and the features h (B, size), in one pass.

        Raises
        ------
        ModelError
            If the module fails on the inputs.
        """
        calls: list[tuple[Tensor, Tensor]] = []
        module = model.module.get_submodule(self.name)
        with _watching({self.name: module}, lambda _, *call: calls.append(call)):
            answer = model.output(inputs)
        return answer, calls[-1][0].reshape(len(inputs), self.size)


def _find(model: VisionModel, image: Tensor) -> LastLinear | None:
    linear = {n: m for n, m in model.module.named_modules() if isinstance(m, nn.Linear)}
    calls: list[tuple[str, Tensor, Tensor]] = []
    with _watching(linear, lambda *call: calls.append(call)):
        answer = model.output(image).flat
    for name, read, gave in reversed(calls):
        same = gave.numel() == answer.numel() and read.numel() == read.shape[-1]
        if same and torch.equal(gave.reshape(-1), answer.reshape(-1)):
            return LastLinear(name, read.shape[-1])
    return None


@contextmanager
def _watching(modules: Mapping[str, nn.Module], heard: Callable[..., None]) -> Iterator[None]:
    """Hear the name of linear modules, what they read and what they give, in this thread."""
    thread = threading.get_ident()

    def hook(name: str, _module: object, args: tuple[Any, ...], output: Tensor) -> None:
        # Another thread may run the same model now. What comes after may work in place.
        if threading.get_ident() == thread and args:
            heard(name, args[0].detach().clone(), output.detach().clone())

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.callback(module.register_forward_hook(partial(hook, name)).remove)
        yield


__all__ = ["LastLinear"]
