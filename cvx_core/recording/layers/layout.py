"""Layout of a network: its layers with a grid, found in one forward pass and never by names."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cvx_core._util.text import shortened
from cvx_core.errors import LayerError, ModelError, did_you_mean
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.recording.layers.hooks import hooked
from cvx_core.recording.layers.layer import Layer, as_grid, batch_first, first_tensor

if TYPE_CHECKING:
    from cvx_core.models.vision_model import VisionModel


@dataclass(frozen=True)
class Layout:
    """All layers of a network for inputs of one size.

    Attributes
    ----------
    layers
        Layers with a grid, in the order of the forward pass. Modules that return the same tensor
        are one layer, under the shortest name.
    shapes
        Output shape (without the batch) of every module that was called, by name.
    aliases
        Names of further modules that return the tensor of a layer.
    input
        The network's input as a layer.
    bytes_per_image
        Estimate of the memory that the activations of one image take in a recording.
    """

    layers: tuple[Layer, ...]
    shapes: dict[str, tuple[int, ...]]
    aliases: dict[str, str]
    input: Layer
    bytes_per_image: int

    @classmethod
    def of(cls, model: VisionModel, inputs: Tensor) -> Layout:
        """Return the layout of a model for inputs (B, C, H, W); traced once for each size."""
        with torch.inference_mode(False):  # its tensors have no versions
            return model.facts.find(lambda: _trace(model, inputs), "layout", inputs.shape[1:])

    def find(self, name: str) -> Layer:
        """Return the layer with a name.

        Raises
        ------
        LayerError
            If there is no such layer, it was not called, or its output has no grid.
        """
        if name == "input":
            return self.input
        exact = [p for p in self.layers if p.name == name or p.module == name]
        if exact:
            # A module that is used more than once means its last call, unless one is named.
            return replace(exact[-1], reason="named by the caller")
        if name in self.aliases:
            layer = self.find(self.aliases[name])
            return replace(layer, reason=f"named by the caller as {name}, the same tensor")
        if name in self.shapes:
            raise LayerError(
                f"The output of the layer {shortened(name)!r} has shape "
                f"{_shape(self.shapes[name])}, which is not a grid of positions over the input "
                f"{_shape(self.input.shape)}.",
                "Layers with a grid: " + _few([p.name for p in self.layers]) + ".",
            )
        raise LayerError(
            f"The model has no layer {shortened(name)!r} that its forward pass calls.",
            did_you_mean(name, [*self.shapes, *self.aliases])
            or "Layers with a grid: " + _few([p.name for p in self.layers]) + ".",
        )


def _trace(model: VisionModel, inputs: Tensor) -> Layout:
    """Run one image through the network."""
    # Twice in a batch: a tensor whose first dimension isn't 2 has another one there (windows, say).
    calls: list[tuple[str, Tensor, int]] = []
    count: dict[str, int] = {}
    total = 0
    linear: dict[int, Tensor] = {}
    modules = {name: module for name, module in model.module.named_modules() if name}

    def record(name: str, args: Any, _kwargs: Any, output: Any) -> None:
        nonlocal total
        tensor = first_tensor(output)
        if tensor is None:
            return
        k = count[name] = count.get(name, 0) + 1
        # An in-place function returns the same tensor with another version: that is another layer.
        calls.append((f"{name}#{k - 1}", tensor, tensor._version))
        if isinstance(modules[name], nn.Linear | nn.LayerNorm):
            linear.update({id(one): one for one in (*args, tensor) if isinstance(one, Tensor)})
        if not any(True for _ in modules[name].children()):
            total += tensor.numel() * tensor.element_size()

    batch = inputs[:1].expand(2, -1, -1, -1).contiguous()
    if isinstance(model.module, torch.jit.ScriptModule):
        raise ModelError(
            "The model is a TorchScript module, whose inside can't be recorded.",
            "Pass the Python module it was made from.",
        )
    with hooked(modules.items(), after=record), evaluation_mode(model.module), torch.no_grad():
        model.read(model.run(batch))
    return _arrange(calls, count, batch, total, linear)


def _arrange(
    calls: list[tuple[str, Tensor, int]],
    count: dict[str, int],
    batch: Tensor,
    total: int,
    linear: Container[int],
) -> Layout:
    """Read the shapes of calls; tensors in `linear` have their features in the last dimension."""
    size = (int(batch.shape[2]), int(batch.shape[3]))
    names = {
        call: call.rpartition("#")[0] if count[call.rpartition("#")[0]] == 1 else call
        for call, _, _ in calls
    }
    # First the grids of maps, then everything again: token sequences are read as one of them.
    usable = [(call, t, version) for call, t, version in calls if batch_first(t, 2)]
    lengths = {int(n) for _, t, _ in usable if t.ndim == 3 for n in t.shape[1:2]}
    known: set[tuple[int, int]] = set()
    for _, t, _ in usable:
        found = as_grid(tuple(t.shape[1:]), size, set(), lengths) if t.ndim == 4 else None
        if found is not None:
            known.add(found[1])
    layers: dict[tuple[int, int], Layer] = {}
    aliases: dict[str, str] = {}
    for call, tensor, version in usable:
        last = id(tensor) in linear
        found = as_grid(tuple(tensor.shape[1:]), size, known, lengths, features_last=last)
        if found is None:
            continue
        kind, grid, prefix = found
        module, _, k = call.rpartition("#")
        layer = Layer(names[call], module, int(k), kind, grid, prefix, tuple(tensor.shape[1:]))
        other = layers.get((id(tensor), version))
        if other is not None:
            name, longer = sorted(
                (other.name, layer.name), key=lambda name: (name.count("."), len(name))
            )
            aliases[longer] = name
            # Recorded where it is computed: an outer module may use the tensor before returning it.
            layer = replace(other, name=name)
        layers[id(tensor), version] = layer
    for name in list(aliases):
        while aliases[name] in aliases:
            aliases[name] = aliases[aliases[name]]
    own = Layer("input", "", 0, "input", size, 0, tuple(batch.shape[1:]), "the network's input")
    shapes = {call.rpartition("#")[0]: tuple(t.shape[1:]) for call, t, _ in calls}
    return Layout(tuple(layers.values()), shapes, aliases, own, max(1, total // 2))


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


def _few(names: list[str]) -> str:
    return ", ".join(shortened(name) for name in names[-6:]) or "none"
