"""Last linear layer of a classifier, whose inputs are the features: logits = W h + b."""

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
class LastLayer:
    """The linear layer whose output is the logits.

    Attributes
    ----------
    name
        Of the module.
    size
        Number of features, the length of h.
    """

    name: str
    size: int

    @classmethod
    def of(cls, model: VisionModel, inputs: Tensor) -> LastLayer | None:
        """Return the layer, or None if no `torch.nn.Linear` outputs the logits unchanged.

        Found by running one image (1, C, H, W) and comparing the output of every linear layer
        with the logits; module names are not considered.
        """
        return model.facts.find(lambda: _find(model, inputs[:1]), "last linear", inputs.shape[1:])

    def read(self, model: VisionModel, inputs: Tensor) -> tuple[ModelOutput, Tensor]:
        """Return the output for inputs (B, C, H, W) and the features h (B, size), in one pass.

        Raises
        ------
        ModelError
            If the module fails on the inputs.
        """
        calls: list[tuple[Tensor, Tensor]] = []
        module = model.module.get_submodule(self.name)
        with _watching({self.name: module}, lambda _, *call: calls.append(call)):
            output = model.output(inputs)
        return output, calls[-1][0].reshape(len(inputs), self.size)


def _find(model: VisionModel, image: Tensor) -> LastLayer | None:
    linear = {n: m for n, m in model.module.named_modules() if isinstance(m, nn.Linear)}
    calls: list[tuple[str, Tensor, Tensor]] = []
    with _watching(linear, lambda *call: calls.append(call)):
        output = model.output(image).flat
    for name, given, returned in reversed(calls):
        same = returned.numel() == output.numel() and given.numel() == given.shape[-1]
        if same and torch.equal(returned.reshape(-1), output.reshape(-1)):
            return LastLayer(name, given.shape[-1])
    return None


@contextmanager
def _watching(modules: Mapping[str, nn.Module], callback: Callable[..., None]) -> Iterator[None]:
    """Call back with the name, input and output of linear modules, in this thread only."""
    thread = threading.get_ident()

    def hook(name: str, _module: object, args: tuple[Any, ...], output: Tensor) -> None:
        # Another thread may run the same model now. Later layers may work in place.
        if threading.get_ident() == thread and args:
            callback(name, args[0].detach().clone(), output.detach().clone())

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.callback(module.register_forward_hook(partial(hook, name)).remove)
        yield
