"""Selection of the layer to explain, and of the layers that all paths pass, by tests on the model.

Names of modules play no part: an architecture that nobody has seen before is tested like any other.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cvx_core.errors import LayerError
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.models.forward import eager
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording.conservation import measure_balance
from cvx_core.recording.interception.autograd import without_gradient
from cvx_core.recording.interception.function_mode import check_seen
from cvx_core.recording.layer_selection.pyramid import choose_levels
from cvx_core.recording.layers.hooks import hooked
from cvx_core.recording.layers.layer import Layer, first_tensor, with_tensor
from cvx_core.recording.layers.layout import Layout, with_another
from cvx_core.recording.recording import Recording
from cvx_core.recording.requirements import Requirements

# Layers that are recorded at once to find those with a gradient: the last of them usually have one,
# and all at once would keep every activation.
_PROBED = 24
# Layers whose activations are exchanged at most, each at the cost of a forward pass.
_EXCHANGED = 8


def find_last_grid(model: VisionModel, inputs: Tensor) -> Layer:
    """Return the last layer with a spatial grid that all paths to the output pass.

    Two tests decide, run once for each model and input size:

    1. The output has a gradient at the spatial positions. (The last block of a vision transformer
       passes on nothing but its class token: its patch tokens have none.)
    2. Exchanging the activations of two images at the layer exchanges their outputs, so that no
       path bypasses it. (One bypasses the inside of a residual block.)

    If no layer passes the second test, the result is the last one that passes the first. For
    segmenters and detectors it is the last of `find_levels`.

    Raises
    ------
    LayerError
        If there is none.
    """
    if model.task.pyramid:
        return find_levels(model, inputs)[-1]
    return model.facts.find(
        lambda: choose_last_grid(Layout.of(model, inputs), model, inputs),
        "last grid",
        inputs.shape[1:],
    )


def find_levels(
    model: VisionModel, inputs: Tensor, parts: frozenset[int] | None = None
) -> tuple[Layer, ...]:
    """Return the layers that together carry the output.

    For a classifier the one of `find_last_grid`. For a segmenter or detector the last layers with
    learned modules behind them, one on each path to the output: the levels of a feature pyramid.

    Parameters
    ----------
    parts
        Numbers of the parts of the output (`ModelOutput.parts`) that a target is about: 0 for
        the scores of a detector and 1 for its boxes. None means all.

    Raises
    ------
    LayerError
        If there are none.
    """
    if not model.task.pyramid:
        return (find_last_grid(model, inputs),)
    return model.facts.find(
        lambda: choose_levels(Layout.of(model, inputs), model, inputs, parts),
        "levels",
        parts,
        inputs.shape[1:],
    )


def find_trunk(model: VisionModel, inputs: Tensor) -> tuple[Layer, ...]:
    """Return the layers with a grid that all paths pass, in the order of the forward pass.

    Found for all layers at once, from one forward pass with frozen gates, one backward pass and
    one replay at zero, run once for each model and input size: a layer that all paths pass carries
    the whole contribution of the image, a layer that paths bypass carries a share of it
    (`cvx_core.recording.conservation`). Layers before a function that is neither piecewise linear
    nor gated are left out, because there the shares don't add up.
    """
    with torch.inference_mode(False):
        return model.facts.find(
            lambda: choose_trunk(Layout.of(model, inputs), model, inputs), "trunk", inputs.shape[1:]
        )


def has_bypass(layer: Layer, model: VisionModel, inputs: Tensor) -> bool:
    """Whether the output depends on the image also by paths that bypass the layer."""
    if layer.kind == "input":
        return False
    with torch.inference_mode(False):
        return model.facts.find(
            lambda: not is_only_way(layer, model, inputs[:1].clone()),
            "leads around",
            inputs.shape[1:],
            layer.name,
        )


def find_layer(name: str, model: VisionModel, inputs: Tensor) -> Layer:
    """Return the layer that a name means; ``"auto"`` is that of `find_last_grid`.

    Raises
    ------
    LayerError
        If there is no such layer, or it has no grid.
    """
    if name == "auto":
        return find_last_grid(model, inputs)
    return Layout.of(model, inputs).find(name)


def open_recording(model: VisionModel, inputs: Tensor, requirements: Requirements) -> Recording:
    """Return a recording, to be entered; ``"auto"`` is resolved as in `find_layer`.

    Examples
    --------
    >>> from cvx_core import Requirements
    >>> from cvx_core.recording import open_recording
    >>> from cvx_core.testing import models
    >>> model, inputs = models.convolutional(), models.inputs(2)
    >>> with open_recording(model, inputs, Requirements("auto")) as recording:
    ...     print(recording.layer("auto").name, recording.logits.shape)
    relu#1 torch.Size([2, 3])
    """
    layers = {name: find_layer(name, model, inputs) for name in requirements.layers}
    if requirements.gates != "native":
        check_seen(model.module, model.name)
    return Recording(model, inputs, requirements, layers)


def choose_last_grid(layout: Layout, model: VisionModel, inputs: Tensor) -> Layer:
    """Return the last layer that passes the tests; see `find_last_grid`."""
    with torch.inference_mode(False):
        image = inputs[:1].clone()
        with_gradient = _with_gradient(layout, model, image)
        for layer in with_gradient[:_EXCHANGED]:
            if is_only_way(layer, model, image):
                reason = "last spatial layer that all paths to the output pass through"
                return replace(layer, reason=f"{reason} {_grid(layer)}")
    if with_gradient:
        layer = with_gradient[0]
        return replace(
            layer,
            reason=f"last spatial layer that affects the output {_grid(layer)}; other paths "
            f"bypass it",
        )
    error = without_gradient(model, image)
    if error is not None:
        raise LayerError(error.message, error.hint)
    logits = model.logits(with_another(image))
    if torch.equal(logits[0], logits[1]):
        raise LayerError(
            "The network's output is the same for every image.",
            "Is its last layer untrained? Some start at zero; load trained weights.",
        )
    raise LayerError(
        "The network has no layer with a spatial grid on which its output depends.",
        "Explain at the input: a method that works there, or layer=input where one takes it.",
    )


def choose_trunk(layout: Layout, model: VisionModel, inputs: Tensor) -> tuple[Layer, ...]:
    """Return the layers that carry the whole output; see `find_trunk`."""
    # An image on which all units are silent carries nothing; noise is tried after it.
    pair = with_another(inputs[:1].clone())
    for image in (pair[:1], pair[1:]):
        # A random seed: that of one class may be zero on a path that other classes use.
        noise = torch.Generator().manual_seed(0)
        logits = model.logits(image)
        seed = torch.randn(logits.shape, generator=noise).to(logits)
        found = measure_balance(model, image, "input", seed)
        if found.total:
            break
    # Wide enough for rounding, narrow enough that few shares come so near the whole by chance.
    tolerance = max(1e-4, 4 * torch.finfo(logits.dtype).eps) * abs(found.total)
    whole = {
        (one.module, one.call)
        for one in found.calls
        if abs(one.passed_on - found.total) <= tolerance > 0
    }
    return tuple(layer for layer in layout.layers if (layer.module, layer.call) in whole)


def _grid(layer: Layer) -> str:
    h, w = layer.grid
    return f"({h} x {w} {'tokens' if 'tokens' in layer.kind else 'positions'})"


def _with_gradient(layout: Layout, model: VisionModel, image: Tensor) -> list[Layer]:
    """Return the layers with a gradient at spatial positions, last first, of the last few."""
    for stop in range(len(layout.layers), 0, -_PROBED):
        candidates = layout.layers[max(0, stop - _PROBED) : stop]
        names = [layer.name for layer in candidates]
        layers = {layer.name: layer for layer in candidates}
        with Recording(model, image, Requirements(*names), layers) as recording:
            noise = torch.Generator().manual_seed(0)
            seed = torch.randn(recording.logits.shape, generator=noise).to(recording.logits)
            gradients = recording.gradients(seed, *names, missing="zero")
        found = [
            layer
            for layer, gradient in zip(candidates, gradients, strict=True)
            if bool(layer.positions(gradient).ne(0).any())
        ]
        if found:
            return found[::-1]
    return []


def is_only_way(layer: Layer, model: VisionModel, image: Tensor) -> bool:
    """Whether exchanging the activations of two images at a layer exchanges their outputs."""
    pair = with_another(image)
    seen = -1

    def exchange(_name: object, _args: object, _kwargs: object, output: object) -> object:
        nonlocal seen
        seen += 1
        tensor = first_tensor(output)
        if seen != layer.call or tensor is None:
            return None
        return with_tensor(output, tensor, tensor.flip(0))

    with evaluation_mode(model.module), torch.no_grad(), eager():
        plain = model.read(model.run(pair))
        module = model.module.get_submodule(layer.module)
        with hooked([(layer.module, module)], after=exchange):
            exchanged = model.read(model.run(pair))
    # Not to the last bit: kernels may round differently by the position in the batch.
    difference = (plain[0] - plain[1]).abs().max()
    return bool((exchanged.flip(0) - plain).abs().max() <= 1e-2 * difference)
