"""Attention of transformers, found without the names of modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvx_core.errors import LayerError
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.models.forward import eager
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording.interception.function_mode import Interception
from cvx_core.recording.layers.hooks import hooked
from cvx_core.recording.layers.layer import Layer
from cvx_core.recording.layers.layout import Layout
from cvx_core.recording.recording import Recording
from cvx_core.recording.requirements import Requirements
from cvx_core.recording.rules.call import any_active
from cvx_core.recording.saved_tensors import SavedTensors

# Layers with tokens that are searched from the end for those that the output reads.
_LAST = 6


def attention_gradients(recording: Recording, seed: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the probabilities A of each self-attention and dS/dA, S = <seed, logits>.

    Both (B, heads, N, N), in forward order; windows of an image count as heads. Each is also one of
    the layers ``attention#0``, ``attention#1``, ... of `Recording.raw`, `Recording.gradients`
    and `Recording.pull`. Attention that does not read the image is left out, such as that over a
    text prompt.
    """
    names = recording.attention_names
    reads = _reads_image(recording.model, recording.inputs)[1] if names else ()
    names = [name for name, read in zip(names, reads, strict=True) if read]
    if not names:
        return []
    found = recording.gradients(seed, *names, missing="zero")
    batch, pairs = recording.inputs.shape[0], zip(map(recording.raw, names), found, strict=True)
    return [
        (a.reshape(batch, -1, *a.shape[-2:]), d.reshape(batch, -1, *d.shape[-2:])) for a, d in pairs
    ]


def image_attention(recording: Recording) -> list[Tensor]:
    """Return the attention probabilities (B, heads, queries, keys) of layers that read the image.

    In forward order. A text tower attends too, and nothing in it depends on the image.
    """
    found = recording.attention()
    reads = _reads_image(recording.model, recording.inputs)[0] if found else ()
    return [one for one, read in zip(found, reads, strict=True) if read]


def tokens_read(model: VisionModel, inputs: Tensor, layer: Layer) -> Tensor:
    """Return which tokens, class and register tokens first, the output reads after the last layer.

    They have a gradient at the last layer that has tokens like `layer` and any gradient at all.
    Names and order don't tell: the first token of a network that averages its patches may be a
    register.

    Returns
    -------
    torch.Tensor
        Boolean (prefix + h * w,), on the CPU. Found once for each model and input size.
    """
    image = inputs[:1]

    def compute() -> Tensor:
        alike = [
            p.name
            for p in Layout.of(model, image).layers
            if p.kind == "tokens" and (p.prefix, p.grid) == (layer.prefix, layer.grid)
        ][-_LAST:]
        layers = {name: Layout.of(model, image).find(name) for name in alike}
        with Recording(model, image, Requirements(*alike), layers) as probe:
            noise = torch.randn(probe.logits.shape, generator=torch.Generator().manual_seed(0))
            gradients = probe.gradients(noise.to(probe.logits), *alike, missing="zero")
        found = [gradient[0].ne(0).any(dim=1).cpu() for gradient in gradients]
        everything = torch.ones(layer.shape[0], dtype=torch.bool)
        return next((read for read in reversed(found) if read.any()), everything)

    return model.facts.find(compute, "tokens that are read", image.shape[1:], layer.shape[0])


def attention_blocks(model: VisionModel, inputs: Tensor) -> dict[str, str]:
    """Return for each recorded self-attention the layer behind its block.

    A block is the outermost module that runs this attention and no other. Attentions without such
    a module, or whose block doesn't return tokens, are left out.

    Returns
    -------
    dict
        ``{"attention#0": "blocks.0", ...}`` in forward order, found once for each model and input
        size.
    """
    return model.facts.find(lambda: _trace(model, inputs[:1]), "attention blocks", inputs.shape[1:])


def _reads_image(model: VisionModel, inputs: Tensor) -> tuple[list[bool], list[bool]]:
    """Return which recorded attention reads the image: all there is, and all-to-all attention.

    What the innermost module around it is given must depend on the image. Where no attention does,
    as in a network that runs without gradient, all count.
    """
    image = inputs[:1].clone()
    return model.facts.find(
        lambda: _trace_image(model, image), "attention that reads the image", image.shape[1:]
    )


def _trace_image(model: VisionModel, image: Tensor) -> tuple[list[bool], list[bool]]:
    running = [True]  # the network itself is given the image
    kept: list[bool] = []
    attended: list[bool] = []
    count = 0

    def note(probabilities: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return probabilities

    ours = Interception(SavedTensors(), attention=True, attended=note)

    def settle() -> None:
        kept.extend([running[-1]] * (len(ours.attention or ()) - len(kept)))
        attended.extend([running[-1]] * (count - len(attended)))

    def begin(_name: Any, args: Any, kwargs: Any) -> None:
        settle()
        running.append(any_active((args, kwargs)))

    def end(*_: Any) -> None:
        settle()
        running.pop()

    inner = [(name, module) for name, module in model.module.named_modules() if name]
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluation_mode(model.module),
        eager(),
        hooked(inner, before=begin, after=end),
        ours,
    ):
        model.run(image.detach().requires_grad_())
    settle()
    return tuple(found if any(found) else [True] * len(found) for found in (kept, attended))  # type: ignore[return-value]


def _trace(model: VisionModel, image: Tensor) -> dict[str, str]:
    running: list[tuple[str, int]] = []
    calls: dict[str, int] = {}
    inside: dict[tuple[str, int], list[int]] = {}
    count = 0

    def begin(name: str, _args: Any, _kwargs: Any) -> None:
        calls[name] = calls.get(name, -1) + 1
        running.append((name, calls[name]))

    def end(*_: Any) -> None:
        running.pop()

    def attended(probabilities: Tensor) -> Tensor:
        nonlocal count
        for call in running:
            inside.setdefault(call, []).append(count)
        count += 1
        return probabilities

    inner = [(name, module) for name, module in model.module.named_modules() if name]
    ours = Interception(SavedTensors(), attended=attended)
    with (
        hooked(inner, before=begin, after=end),
        torch.inference_mode(False),
        torch.no_grad(),
        evaluation_mode(model.module),
        eager(),
        ours,
    ):
        model.run(image)
    layout = Layout.of(model, image)
    blocks: dict[str, str] = {}
    for (name, call), attentions in inside.items():  # outer modules come before those in them
        key = f"attention#{attentions[0]}"
        if len(attentions) == 1 and key not in blocks:
            try:
                layer = layout.find(f"{name}#{call}" if calls[name] else name)
            except LayerError:
                continue
            if layer.kind == "tokens":
                blocks[key] = layer.name
    return dict(sorted(blocks.items(), key=lambda item: int(item[0].partition("#")[2])))
