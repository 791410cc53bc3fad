"""Layout of a network: its layers with a grid, found in one forward pass and never by names."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cvx_core._util.text import shortened
from cvx_core.errors import LayerError, did_you_mean
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.models.forward import eager, version
from cvx_core.recording.layers.hooks import hooked, takes_hooks
from cvx_core.recording.layers.layer import Layer, as_grid, batch_first, first_tensor

if TYPE_CHECKING:
    from cvx_core.models.vision_model import VisionModel


_HIDDEN = 100
"""Times the input that activations may take in a network whose inside can't be seen."""


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
    constant
        Calls whose output is a grid that is the same for every image (a second image that is fixed
        in the network, say); they are no layers.
    input
        The network's input as a layer.
    bytes_per_image
        Estimate of the memory that the activations of one image take in a recording.
    """

    layers: tuple[Layer, ...]
    shapes: dict[str, tuple[int, ...]]
    aliases: dict[str, str]
    constant: tuple[str, ...]
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
        exact = [p for p in self.layers if name in (p.name, p.module, _module(p.name))]
        if exact:
            # A module that is used more than once means its last call, unless one is named.
            return replace(exact[-1], reason="named by the caller")
        # In the order of the calls, as above.
        also = [kept for alias, kept in self.aliases.items() if name in (alias, _module(alias))]
        if also:
            layer = self.find(also[-1])
            return replace(layer, reason=f"named by the caller as {name}, the same tensor")
        same = [call for call in self.constant if name in (call, _module(call))]
        if same:
            raise LayerError(
                f"The output of {shortened(same[-1])!r} is the same for every image, so it can't "
                "explain one.",
                self._calls(_module(name)) or self._layers(),
            )
        if name in self.shapes:
            raise LayerError(
                f"The output of the layer {shortened(name)!r} has shape "
                f"{_shape(self.shapes[name])}, which is not a grid of positions over the input "
                f"{_shape(self.input.shape)}.",
                self._layers(),
            )
        raise LayerError(
            f"The model has no layer {shortened(name)!r} that its forward pass calls.",
            self._calls(_module(name))
            or did_you_mean(name, [*self.shapes, *self.aliases])
            or self._layers(),
        )

    def _calls(self, module: str) -> str:
        """Return a sentence that lists the calls of a module that are layers, if there are any."""
        names = [*(p.name for p in self.layers), *self.aliases]
        calls = sorted({n for n in names if _module(n) == module}, key=lambda n: (len(n), n))
        return f"Calls of {shortened(module)!r} with a grid: {_few(calls)}." if calls else ""

    def _layers(self) -> str:
        return "Layers with a grid: " + _few([p.name for p in self.layers]) + "."


def _trace(model: VisionModel, inputs: Tensor) -> Layout:
    """Run one image through the network beside another, and then alone."""
    calls: list[tuple[str, Tensor, int]] = []
    count: dict[str, int] = {}
    alike: dict[str, Tensor] = {}
    constant: set[str] = set()
    linear: dict[int, Tensor] = {}
    convolved: set[tuple[int, ...]] = set()
    spans: dict[int, tuple[int, int]] = {}
    modules = dict(model.module.named_modules())

    def keep(call: str, tensor: Tensor, args: Any) -> None:
        # An in-place function returns the same tensor with another version: that is another layer.
        calls.append((call, tensor, version(tensor)))
        count[_module(call)] = count.get(_module(call), 0) + 1
        # To the last bit: it is the same row of the batch.
        if call in alike and batch_first(tensor, 2) and torch.equal(alike[call], tensor[1]):
            constant.add(call)
        if isinstance(modules[_module(call)], nn.Conv2d):
            convolved.add(tuple(tensor.shape[1:]))
        if isinstance(modules[_module(call)], nn.Linear | nn.LayerNorm):
            linear.update({id(one): one for one in (*args, tensor) if isinstance(one, Tensor)})

    def compare(call: str, tensor: Tensor, _args: Any) -> None:
        if not (batch_first(tensor, 2) and tensor.is_floating_point()):
            return
        if tensor.ndim == 3 and tensor.shape[1] not in spans:
            spans[tensor.shape[1]] = _changing(tensor)
        # Units that are silent on both images tell nothing.
        if torch.allclose(tensor[0], tensor[1], rtol=1e-2) and bool(tensor[1].any()):
            alike[call] = tensor[1].clone()

    # Twice in a batch: a tensor whose first dimension isn't 2 has another one there (windows, say).
    batch = inputs[:1].expand(2, -1, -1, -1).contiguous()
    _observe(model, with_another(inputs[:1]), compare)
    _observe(model, batch, keep)
    inner = {n for n, module in modules.items() if not any(True for _ in module.children())}
    total = sum(t.numel() * t.element_size() for call, t, _ in calls if _module(call) in inner)
    if not all(takes_hooks(module) for module in model.module.modules()):
        total = max(total, _HIDDEN * batch.numel() * batch.element_size())
    return _arrange(calls, count, constant, batch, total, linear, convolved, spans)


def _changing(tokens: Tensor) -> tuple[int, int]:
    """Return where the first tokens (2, N, C) are that differ between two images, and their end.

    All others are the same for every image, as class and register tokens are before they attend
    to anything; (0, N) where those that differ don't follow one another.
    """
    differ = (tokens[0] != tokens[1]).any(1).nonzero()[:, 0].tolist()
    whole = (0, tokens.shape[1])
    if not differ or differ[-1] - differ[0] + 1 != len(differ):
        return whole
    return differ[0], differ[-1] + 1


def _observe(model: VisionModel, batch: Tensor, seen: Callable[[str, Tensor, Any], None]) -> None:
    """Run a batch and call a function with each call, ``name#k``, its output and arguments."""
    calls: dict[str, int] = {}

    def record(name: str, args: Any, _kwargs: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None:
            k = calls[name] = calls.get(name, -1) + 1
            seen(f"{name}#{k}", tensor, args)

    modules = [(name, module) for name, module in model.module.named_modules() if name]
    with hooked(modules, after=record), evaluation_mode(model.module), torch.no_grad(), eager():
        model.read(model.run(batch))


def with_another(image: Tensor) -> Tensor:
    """Return a batch of an image (1, C, H, W) and noise of its mean and deviation."""
    # The other image must differ everywhere, or paths that bypass a layer would go unnoticed where
    # the two agree; and stay in the range of the network's inputs, or activations would saturate.
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(image)
    other = image.mean() + image.std(unbiased=False).clamp_min(0.1) * noise
    return torch.cat([image, other])


def _module(call: str) -> str:
    """Return the module's name of a call, ``name#k``."""
    return call.rpartition("#")[0] or call


def _arrange(
    calls: list[tuple[str, Tensor, int]],
    count: dict[str, int],
    constant: set[str],
    batch: Tensor,
    total: int,
    linear: Container[int],
    convolved: Container[tuple[int, ...]],
    spans: dict[int, tuple[int, int]],
) -> Layout:
    """Read the shapes of calls.

    Tensors in `linear` have their features in the last dimension, and the shapes in `convolved` are
    those of maps. In `spans` is where tokens change with the image, by their number.
    """
    size = (int(batch.shape[2]), int(batch.shape[3]))
    names = {call: _module(call) if count[_module(call)] == 1 else call for call, _, _ in calls}
    # First the grids of maps, then everything again: token sequences are read as one of them.
    usable = [one for one in calls if batch_first(one[1], 2) and one[1].is_floating_point()]
    tokens = {int(n) for _, t, _ in usable if t.ndim == 3 for n in t.shape[1:2]}
    known: set[tuple[int, int]] = set()
    for _, t, _ in usable:
        lengths = set() if tuple(t.shape[1:]) in convolved else tokens
        found = as_grid(tuple(t.shape[1:]), size, set(), lengths) if t.ndim == 4 else None
        if found is not None:
            known.add(found[1])
    layers: dict[tuple[int, int], Layer] = {}
    aliases: dict[str, str] = {}
    same: list[str] = []
    for call, tensor, k in usable:
        shape = tuple(tensor.shape[1:])
        lengths = set() if shape in convolved else tokens
        found = as_grid(shape, size, known, lengths, features_last=id(tensor) in linear)
        start, stop = spans.get(shape[0], (0, shape[0])) if len(shape) == 2 else (0, 0)
        grids = {one for one in known if 1 < one[0] * one[1] == stop - start < shape[0]}
        suffix = shape[0] - stop if len(grids) == 1 else 0
        if len(grids) == 1:
            found = "tokens", grids.pop(), start
        if found is None:
            continue
        if call in constant:
            same.append(names[call])
            continue
        kind, grid, prefix = found
        module, _, number = call.rpartition("#")
        layer = Layer(names[call], module, int(number), kind, grid, prefix, shape, "", suffix)
        other = layers.get((id(tensor), k))
        if other is not None:
            name, longer = sorted(
                (other.name, layer.name), key=lambda name: (name.count("."), len(name))
            )
            aliases[longer] = name
            # Recorded where it is computed: an outer module may use the tensor before returning it.
            layer = replace(other, name=name)
        layers[id(tensor), k] = layer
    for name in list(aliases):
        while aliases[name] in aliases:
            aliases[name] = aliases[aliases[name]]
    own = Layer("input", "", 0, "input", size, 0, tuple(batch.shape[1:]), "the network's input")
    shapes = {_module(call): tuple(t.shape[1:]) for call, t, _ in calls}
    return Layout(tuple(layers.values()), shapes, aliases, tuple(same), own, max(1, total // 2))


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


def _few(names: list[str]) -> str:
    return ", ".join(shortened(name) for name in names[-6:]) or "none"
