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
from cvx_core.recording.layers.layout import Layout, with_another
from cvx_core.recording.recording import Recording
from cvx_core.recording.requirements import Requirements
from cvx_core.recording.saved_tensors import SavedTensors

# Layers with tokens that are searched from the end for those that the output reads.
_LAST = 6


def image_attention(recording: Recording) -> list[Tensor]:
    """Return the recorded attention probabilities that change with the image, in forward order.

    (B, heads, queries, keys), or as the network lays them out. Those of the text tower of a model
    of images and texts, or of a second image that is fixed, are left out.
    """
    changing, _ = _changing(recording.model, recording.inputs)
    found = recording.attention()
    return [found[k] for k in changing if k < len(found)]


def attention_shapes(model: VisionModel, inputs: Tensor) -> list[tuple[int, ...]]:
    """Return the shapes of the attention probabilities that change with the image.

    As those of `image_attention`, for one image: (heads, queries, keys), say.
    """
    return list(_changing(model, inputs)[0].values())


def attention_gradients(recording: Recording, seed: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the probabilities A of each self-attention and dS/dA, S = <seed, logits>.

    Both (B, heads, N, N), in forward order; windows of an image count as heads. Each is also one of
    the layers ``attention#0``, ``attention#1``, ... of `Recording.raw`, `Recording.gradients`
    and `Recording.pull`. Those that don't change with the image are left out.
    """
    _, changing = _changing(recording.model, recording.inputs)
    names = [name for name in recording.nodes if name in changing]
    if not names:
        return []
    found = recording.gradients(seed, *names, missing="zero")
    batch, pairs = recording.inputs.shape[0], zip(map(recording.raw, names), found, strict=True)
    return [
        (a.reshape(batch, -1, *a.shape[-2:]), d.reshape(batch, -1, *d.shape[-2:])) for a, d in pairs
    ]


def _changing(model: VisionModel, inputs: Tensor) -> tuple[dict[int, tuple[int, ...]], set[str]]:
    """Return which of all attention probabilities, and of the self-attentions, change."""

    def run(batch: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        own: list[Tensor] = []

        def attended(probabilities: Tensor) -> Tensor:
            own.append(probabilities)
            return probabilities

        mode = Interception(SavedTensors(), attention=True, attended=attended)
        with torch.no_grad(), evaluation_mode(model.module), eager(), mode:
            model.run(batch)
        return mode.attention or [], own

    def compute() -> tuple[dict[int, tuple[int, ...]], set[str]]:
        with torch.inference_mode(False):
            image = inputs[:1].clone()
            every, own = run(torch.cat([image, image]))
            others, others_own = run(with_another(image))
        return (
            {
                k: (*([] if len(a) == 2 else [len(a) // 2]), *a.shape[1:])
                for k, (a, b) in enumerate(zip(every, others, strict=False))
                if not torch.equal(a, b)
            },
            {
                f"attention#{k}"
                for k, (a, b) in enumerate(zip(own, others_own, strict=False))
                if not torch.equal(a, b)
            },
        )

    return model.facts.find(compute, "attention that changes", inputs.shape[1:])


def tokens_read(model: VisionModel, inputs: Tensor, layer: Layer) -> Tensor:
    """Return which tokens, class and register tokens first, the output reads after the last layer.

    They have a gradient at the last layer that has tokens like `layer` and any gradient at all.
    Names and order don't tell: the first token of a network that averages its patches may be a
    register.

    Returns
    -------
    torch.Tensor
        Boolean (tokens,), on the CPU. Found once for each model and input size.
    """
    image = inputs[:1]

    def compute() -> Tensor:
        alike = [
            p.name
            for p in Layout.of(model, image).layers
            if p.kind == "tokens"
            and (p.prefix, p.grid, p.suffix) == (layer.prefix, layer.grid, layer.suffix)
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
    """Return for each self-attention that changes with the image the layer behind its block.

    A block is the outermost module that runs this attention and no other. Attentions without such
    a module, or whose block doesn't return tokens, are left out.

    Returns
    -------
    dict
        ``{"attention#0": "blocks.0", ...}`` in forward order, found once for each model and input
        size.
    """
    return model.facts.find(lambda: _trace(model, inputs[:1]), "attention blocks", inputs.shape[1:])


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
            if layer.kind == "tokens" and key in _changing(model, image)[1]:
                blocks[key] = layer.name
    return dict(sorted(blocks.items(), key=lambda item: int(item[0].partition("#")[2])))
