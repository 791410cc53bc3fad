"""Run what comes after a place alone: what comes before it computes shapes and nothing else.

Until the place is reached every tensor that depends on the input lives on PyTorch's ``meta``
device, where operations cost microseconds and no memory. At the place a real value is put in, and
from there on the network computes for real. A tensor without data can't leak into the answer
unseen: whatever touches one is one, and one in the answer, or a choice that wants to read one,
makes the whole network run instead, with the same result.
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
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording.interception.autograd import pull_back
from cvx_core.recording.interception.function_mode import Interception
from cvx_core.recording.layers.hooks import hooked
from cvx_core.recording.layers.layer import Layer, first_tensor, with_tensor
from cvx_core.recording.recording import Recording
from cvx_core.recording.saved_tensors import SavedTensors


def rerun(recording: Recording, name: str, value: Tensor, rows: Tensor) -> Tensor:
    """Return logits (N, classes) with values (N, ...) put in at a layer, without graph.

    What comes before the layer is not computed again, where the network allows that.

    Parameters
    ----------
    recording
        Its passes are counted there.
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
    return PartialForward(recording.model, recording.inputs, recording.layer(name))


class PartialForward:
    """The part of a network behind a place.

    Parameters
    ----------
    model
        The model.
    inputs
        (B, C, H, W), what the rows of later calls refer to.
    place
        Where the part begins; the network's input for all of it.
    """

    def __init__(self, model: VisionModel, inputs: Tensor, place: Layer) -> None:
        self.model, self.inputs, self.place = model, inputs, place
        self._key = ("requires the part before", inputs.shape[1:], place.name)

    @property
    def alone(self) -> bool:
        """Whether this part has run without the part before it, as far as is known."""
        return self._key not in self.model.facts.notes

    def logits(self, value: Tensor, rows: Tensor) -> Tensor:
        """Return logits (N, classes) without graph, for values (N, ...) at the place.

        Parameters
        ----------
        value
            Laid out as the module returns it.
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
        if self.place.kind == "input":
            with evaluation_mode(self.model.module), eager(), mode:
                return self.model.read(self.model.run(value.clone()))
        if self.alone:
            try:
                return self._run_alone(value, len(rows), mode)
            except ModelError:
                pass  # with everything computed it may work; if not, its error is the true one
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
            with _OnlyShapes(self.inputs.device):
                output = self.model.run(shapes)
            # An answer without data, or with half of one, is refused by the readout or here.
            logits = self.model.read(output)
        if logits.is_meta:
            raise ModelError("Another path leads around the place.")
        return logits

    def _run_whole(self, value: Tensor, rows: Tensor, mode: AbstractContextManager[Any]) -> Tensor:
        with evaluation_mode(self.model.module), self._exchanged(value), eager(), mode:
            return self.model.read(self.model.run(self.inputs[rows]))

    @contextmanager
    def _exchanged(self, value: Tensor) -> Iterator[None]:
        """Put a value in at the place for a while."""
        seen = -1

        def exchange(_name: object, _args: object, _kwargs: object, output: object) -> object:
            nonlocal seen
            seen += 1
            tensor = first_tensor(output)
            if seen != self.place.call or tensor is None:
                return None
            return with_tensor(output, tensor, value.clone())

        module = self.model.module.get_submodule(self.place.module)
        with hooked([(self.place.module, module)], after=exchange):
            yield
        if seen < self.place.call:
            raise MethodError(
                f"The forward pass did not come by {self.place.name} this time.",
                "The network's way depends on its data; name a layer that is always used.",
            )


class _OnlyShapes(TorchFunctionMode):
    """Lets a function compute no more than shapes as soon as one of its tensors has no data."""

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
        """Run one function of the model's."""
        kwargs = kwargs or {}
        if isinstance(func, _METHOD_WRAPPER):
            # To the model its tensors live where they always do, so that what it makes beside
            # them (masks, positions) is real.
            known = _APPARENT.get(getattr(func, "__self__", None))
            return known(self.device) if known is not None else func(*args, **kwargs)
        if not _any_meta((args, kwargs)):
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        in_place = (name.endswith("_") and not name.endswith("__")) or name in _IN_PLACE
        targets = (args[0] if in_place and args else None, kwargs.get("out"))
        if any(isinstance(target, Tensor) and not target.is_meta for target in targets):
            raise ModelError("What has no data would overwrite what has.")
        return func(*_without_data(args), **_without_data(kwargs))


@contextmanager
def attributes_as_found(module: nn.Module) -> Iterator[None]:
    """Take tensors without data out of a module again that keeps what it computes."""
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
_IN_PLACE = {"__setitem__", *(f"__i{name}__" for name in ("add", "sub", "mul", "truediv"))}
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
