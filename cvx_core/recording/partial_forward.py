"""Partial forward passes: the network behind a layer runs alone, the part before computes shapes.

Up to the layer, every tensor that depends on the input lives on PyTorch's ``meta`` device, where
operations cost microseconds and no memory. At the layer a real value is inserted, and from there
on the network computes data. A tensor without data can't leak into the output unseen: every result
of one is one too. If the output is one, or a branch reads one, the whole network runs instead, with
the same result.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cvx_core.errors import MethodError, ModelError
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.models.forward import eager
from cvx_core.models.repeatability import check_repeatable
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording.interception.autograd import pull_back
from cvx_core.recording.interception.function_mode import Interception
from cvx_core.recording.layers.hooks import hooked
from cvx_core.recording.layers.layer import Layer, first_tensor, with_tensor
from cvx_core.recording.recording import Recording
from cvx_core.recording.saved_tensors import SavedTensors


def rerun(recording: Recording, name: str, value: Tensor, rows: Tensor) -> Tensor:
    """Return logits (N, classes) with values (N, ...) inserted at a layer, without graph.

    The part before the layer is not computed again, where the network allows that.

    Parameters
    ----------
    recording
        The recording, which counts the passes.
    name
        Any layer.
    value
        Laid out as ``recording.raw(name)``.
    rows
        (N,), the image that each value belongs to.
    """
    recording.forwards += 1
    return _behind(recording, name).logits(value, rows)


def rerun_gradient(
    recording: Recording, seed: Tensor, name: str, value: Tensor, rows: Tensor
) -> Tensor:
    """Return d<seed, logits> / d(value) of `rerun`, for seeds (N, classes)."""
    recording.forwards, recording.backwards = recording.forwards + 1, recording.backwards + 1
    return _behind(recording, name).gradient(seed, value, rows)


def _behind(recording: Recording, name: str) -> PartialForward:
    check_repeatable(recording.model, recording.inputs)
    return PartialForward(recording.model, recording.inputs, recording.layer(name))


class PartialForward:
    """The part of a network behind a layer.

    Parameters
    ----------
    model
        The model.
    inputs
        (B, C, H, W), to which the rows of later calls refer.
    layer
        The layer; the network's input stands for the whole network.
    """

    def __init__(self, model: VisionModel, inputs: Tensor, layer: Layer) -> None:
        self.model, self.inputs, self.layer = model, inputs, layer
        self._key = ("requires the part before", inputs.shape[1:], layer.name)

    @property
    def alone(self) -> bool:
        """Whether this part runs without the part before it, as far as is known."""
        return self._key not in self.model.facts.notes

    def logits(self, value: Tensor, rows: Tensor) -> Tensor:
        """Return logits (N, classes) without graph, for values (N, ...) at the layer.

        Parameters
        ----------
        value
            Laid out as the module returns them.
        rows
            (N,), the image that each value belongs to.
        """
        # In this order: leaving inference mode switches gradients on.
        with torch.inference_mode(False), torch.no_grad():
            return self._run(value.detach(), rows, nullcontext())

    def gradient(self, seed: Tensor, value: Tensor, rows: Tensor) -> Tensor:
        """Return d<seed, logits> / d(value) for seeds (N, classes), laid out as `value`."""
        saved = SavedTensors()
        interception = Interception(saved)
        interception.started = True
        leaf = value.detach().requires_grad_()
        with torch.inference_mode(False), torch.enable_grad():
            kept = torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack)
            with kept:
                logits = self._run(leaf, rows, interception)
            with interception:
                [found] = pull_back(logits, [leaf], seed.to(logits))
        return torch.zeros_like(value) if found is None else found

    def _run(self, value: Tensor, rows: Tensor, mode: AbstractContextManager[Any]) -> Tensor:
        rows = rows.to(self.inputs.device)
        if self.layer.kind == "input":
            with evaluation_mode(self.model.module), eager(), mode:
                return self.model.read(self.model.run(value))
        if self.alone:
            try:
                return self._run_alone(value, len(rows), mode)
            # A branch may have read a tensor without data. Run as a whole, the network succeeds or
            # raises its own error.
            except ModelError:
                pass
        found = self._run_whole(value, rows, mode)
        self.model.facts.notes.add(self._key)
        return found

    def _run_alone(self, value: Tensor, count: int, mode: AbstractContextManager[Any]) -> Tensor:
        module = self.model.module
        shapes = self.inputs.new_empty((count, *self.inputs.shape[1:]), device="meta")
        with (
            evaluation_mode(module),
            attributes_as_found(module),
            self._exchanged(value),
            eager(),
            mode,
        ):
            # Around the model alone: the mode inside it, if any, sees the tensors with data.
            with _OnlyShapes(self.inputs.device):
                output = self.model.run(shapes)
            # An output without data, or partly without, is refused by the parser or here.
            logits = self.model.read(output)
        if logits.is_meta:
            raise ModelError("Another path bypasses the layer.")
        return logits

    def _run_whole(self, value: Tensor, rows: Tensor, mode: AbstractContextManager[Any]) -> Tensor:
        with evaluation_mode(self.model.module), self._exchanged(value), eager(), mode:
            return self.model.read(self.model.run(self.inputs[rows]))

    @contextmanager
    def _exchanged(self, value: Tensor) -> Iterator[None]:
        """Insert a value at the layer for a while."""
        seen = -1

        def exchange(_name: object, _args: object, _kwargs: object, output: object) -> object:
            nonlocal seen
            seen += 1
            tensor = first_tensor(output)
            if seen != self.layer.call or tensor is None:
                return None
            # A copy: the network may overwrite it in place.
            return with_tensor(output, tensor, value.clone())

        module = self.model.module.get_submodule(self.layer.module)
        with hooked([(self.layer.module, module)], after=exchange):
            yield
        if seen < self.layer.call:
            raise MethodError(
                f"The forward pass did not run {self.layer.name} this time.",
                "The network's path depends on its data; name a layer that is always used.",
            )


class _OnlyShapes(TorchFunctionMode):
    """Mode in which a function computes only shapes if one of its tensors has no data."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one function of the model."""
        kwargs = kwargs or {}
        if isinstance(func, _METHOD_WRAPPER):
            # To the model its tensors seem to live where they always do, so that tensors it makes
            # for that device (masks, position indices) have data.
            known = _APPARENT.get(getattr(func, "__self__", None))
            return known(self.device) if known is not None else func(*args, **kwargs)
        if not _any_meta((args, kwargs)):
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        # Results of "meta" tensors are "meta" tensors; only writing into a tensor with data would
        # lose data unseen.
        in_place = (name.endswith("_") and not name.endswith("__")) or name in _IN_PLACE
        targets = (args[0] if in_place and args else None, kwargs.get("out"))
        if any(isinstance(target, Tensor) and not target.is_meta for target in targets):
            raise ModelError("A tensor without data would overwrite one with data.")
        return func(*_without_data(args), **_without_data(kwargs))


@contextmanager
def attributes_as_found(module: nn.Module) -> Iterator[None]:
    """Remove tensors without data from modules that cache what they compute."""
    # Modules cache positions, masks or a last attention as attributes, or in a dictionary that is
    # one. A "meta" tensor left there would break the model's next forward pass.
    found = [
        (holder, dict(holder))
        for m in module.modules()
        for holder in (vars(m), *(v for v in vars(m).values() if type(v) is dict))
    ]
    try:
        yield
    finally:
        for holder, before in found:
            for key in [k for k, v in holder.items() if _any_meta(v) and v is not before.get(k)]:
                if key in before:
                    holder[key] = before[key]
                else:
                    del holder[key]


_METHOD_WRAPPER = types.MethodWrapperType
# Methods that write in place and are not named with a trailing underscore.
_IN_PLACE = {"__setitem__", *(f"__i{name}__" for name in ("add", "sub", "mul", "truediv"))}
# Attributes that would tell the model that a tensor has no data.
_APPARENT: dict[Any, Callable[[torch.device], Any]] = {
    Tensor.device: lambda device: device,
    Tensor.is_meta: lambda _: False,
    Tensor.is_cpu: lambda device: device.type == "cpu",
    Tensor.is_cuda: lambda device: device.type == "cuda",
}


def _any_meta(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_meta
    if type(value) in (tuple, list):
        return any(map(_any_meta, value))
    return type(value) is dict and any(map(_any_meta, value.values()))


def _without_data(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value if value.is_meta else value.detach().to("meta")
    if isinstance(value, torch.device):
        return torch.device("meta")
    if type(value) in (tuple, list):
        return type(value)(map(_without_data, value))
    if type(value) is dict:
        return {key: _without_data(one) for key, one in value.items()}
    return value
