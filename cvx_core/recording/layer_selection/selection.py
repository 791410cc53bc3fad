"""Choose the place to explain at, and those that everything passes, by tests on the network."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cvx_core.errors import LayerError
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording.conservation import measure_balance
from cvx_core.recording.layer_selection.pyramid import choose_levels
from cvx_core.recording.layers.hooks import hooked
from cvx_core.recording.layers.layer import Layer, first_tensor, with_tensor
from cvx_core.recording.layers.layout import Layout
from cvx_core.recording.recording import Recording
from cvx_core.recording.requirements import Requirements
from cvx_core.tasks.builtin_tasks import TASKS

_PROBED = 24
_EXCHANGED = 8


def find_last_grid(model: VisionModel, inputs: Tensor) -> Layer:
    """Return the last place with a grid through which everything passes that the answer reads.

    Two tests, run once for each model and input size, decide it; names play no part.

    1. The answer has a gradient on the cells. (The last block of a vision transformer
       hands on nothing but its class token: its patch tokens have none.)
    2. Exchanging the activations of two images there exchanges their answers, so that no path
       leads around the place. (One leads around the inside of a residual block.)

    Where no place passes the second test, the last that passes the first is taken. Of
    segmenters and detectors it is the last of the `levels`.

    Raises
    ------
    LayerError
        If there is none.
    """
    if TASKS[model.task].pyramid:
        return find_levels(model, inputs)[-1]
    return model.facts.find(
        lambda: choose_last_grid(Layout.of(model, inputs), model, inputs),
        "last grid",
        inputs.shape[1:],
    )


def find_levels(model: VisionModel, inputs: Tensor) -> tuple[Layer, ...]:
    """Return the places that together carry the answer.

    Of a classifier the one of `last_grid`. Of a segmenter or detector the last with something
    learned behind them, one on each way to the answer: the levels of a feature pyramid, say.

    Raises
    ------
    LayerError
        If there are none.
    """
    if not TASKS[model.task].pyramid:
        return (find_last_grid(model, inputs),)
    return model.facts.find(
        lambda: choose_levels(Layout.of(model, inputs), model, inputs), "levels", inputs.shape[1:]
    )


def find_trunk(model: VisionModel, inputs: Tensor) -> tuple[Layer, ...]:
    """Return the places with a grid that everything passes, in the order of the forward pass.

    Found for all places at once, from one forward pass with held gates, one backward pass and
    one replay at zero, run once for each model and input size: a place that everything passes
    carries the whole of what the image adds to an answer, one beside which paths lead around
    carries a share (`cvx_core.recording.conservation`). Places before a function that is neither
    piecewise linear nor gated are left out, because there the shares don't add up.
    """
    with torch.inference_mode(False):
        return model.facts.find(
            lambda: choose_trunk(Layout.of(model, inputs), model, inputs), "trunk", inputs.shape[1:]
        )


def has_bypass(layer: Layer, model: VisionModel, inputs: Tensor) -> bool:
    """Whether the answer depends on the image also by paths that don't pass a place."""
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
    """Return the layer that a name means; ``"auto"`` is `last_grid`.

    Raises
    ------
    LayerError
        If there is no such layer, or it has no grid.
    """
    if name == "auto":
        return find_last_grid(model, inputs)
    return Layout.of(model, inputs).find(name)


def open_recording(model: VisionModel, inputs: Tensor, requirements: Requirements) -> Recording:
    """Return a recording, to be entered; ``"auto"`` among its layers is resolved to `last_grid`.

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
    return Recording(model, inputs, requirements, layers)


def choose_last_grid(layout: Layout, model: VisionModel, inputs: Tensor) -> Layer:
    """Return the last place that passes the tests; see `Layout.last_grid`."""
    with torch.inference_mode(False):
        image = inputs[:1].clone()
        with_gradient = _with_gradient(layout, model, image)
        for place in with_gradient[:_EXCHANGED]:
            if is_only_way(place, model, image):
                return replace(place, reason=f"the last grid that everything passes {_grid(place)}")
    if with_gradient:
        place = with_gradient[0]
        return replace(
            place,
            reason=f"the last grid that the answer depends on {_grid(place)}; "
            "other paths lead around it",
        )
    if _answers_the_same(model, image):
        raise LayerError(
            "The network's answer is the same for every image.",
            "Is its last layer untrained? Some start at zero; load trained weights.",
        )
    raise LayerError(
        "The network has no layer with a spatial grid on which its output depends.",
        "Explain at the input: a method that works there, or layer=input where one takes it.",
    )


def choose_trunk(layout: Layout, model: VisionModel, inputs: Tensor) -> tuple[Layer, ...]:
    """Return the places that carry the whole of an answer; see `Layout.trunk`."""
    image = inputs[:1].clone()
    noise = torch.Generator().manual_seed(0)
    logits = model.logits(image)
    seed = torch.randn(logits.shape, generator=noise).to(logits)
    found = measure_balance(model, image, "input", seed)
    # A share may be near the whole by chance, and the whole is it up to rounding.
    tolerance = max(1e-4, 4 * torch.finfo(logits.dtype).eps) * abs(found.total)
    whole = {
        (one.module, one.call)
        for one in found.calls
        if abs(one.handed_on - found.total) <= tolerance > 0
    }
    return tuple(place for place in layout.layers if (place.module, place.call) in whole)


def _grid(place: Layer) -> str:
    h, w = place.grid
    return f"({h} x {w} {'tokens' if 'tokens' in place.kind else 'cells'})"


def _with_gradient(layout: Layout, model: VisionModel, image: Tensor) -> list[Layer]:
    """Return the places whose cells have a gradient, last first, from the last few that do."""
    for stop in range(len(layout.layers), 0, -_PROBED):
        candidates = layout.layers[max(0, stop - _PROBED) : stop]
        names = [place.name for place in candidates]
        layers = {place.name: place for place in candidates}
        with Recording(model, image, Requirements(*names), layers) as recording:
            noise = torch.Generator().manual_seed(0)
            seed = torch.randn(recording.logits.shape, generator=noise).to(recording.logits)
            gradients = recording.gradients(seed, *names, missing="zero")
        found = [
            place
            for place, gradient in zip(candidates, gradients, strict=True)
            if bool(place.positions(gradient).ne(0).any())
        ]
        if found:
            return found[::-1]
    return []


def _answers_the_same(model: VisionModel, image: Tensor) -> bool:
    answers = model.logits(_with_another(image))
    return bool(torch.equal(answers[0], answers[1]))


def _with_another(image: Tensor) -> Tensor:
    """Return a batch of an image (1, C, H, W) and noise of its mean and deviation."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(image)
    other = image.mean() + image.std(unbiased=False).clamp_min(0.1) * noise
    return torch.cat([image, other])


def is_only_way(place: Layer, model: VisionModel, image: Tensor) -> bool:
    """Whether exchanging two images' activations at a place exchanges their answers."""
    pair = _with_another(image)
    seen = -1

    def exchange(_name: object, _args: object, _kwargs: object, output: object) -> object:
        nonlocal seen
        seen += 1
        tensor = first_tensor(output)
        if seen != place.call or tensor is None:
            return None
        return with_tensor(output, tensor, tensor.flip(0))

    with evaluation_mode(model.module), torch.no_grad():
        plain = model.read(model.run(pair))
        module = model.module.get_submodule(place.module)
        with hooked([(place.module, module)], after=exchange):
            exchanged = model.read(model.run(pair))
    difference = (plain[0] - plain[1]).abs().max()
    return bool((exchanged.flip(0) - plain).abs().max() <= 1e-2 * difference)
