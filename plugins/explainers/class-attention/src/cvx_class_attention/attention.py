"""Class-based attention of transformers, from attention probabilities and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, MethodError, Recording, Requirements
from cvx_core.recording import (
    Layer,
    attention_blocks,
    attention_gradients,
    attention_shapes,
    find_layer,
    rerun_gradient,
    tokens_read,
)


@dataclass(frozen=True)
class GenericAttention(Explainer):
    """Gradient-weighted attention, carried through the layers (Chefer 2021, arXiv:2103.15679).

    With A the attention probabilities of a layer and dS/dA their gradient, layer by layer from
    R = I (eq. 5 and 6 of the paper, for self-attention):

        R <- R + mean over heads of max(dS/dA * A, 0) @ R.

    The map is the row of R for the class token, or the mean row of the tokens that the
    prediction reads, at the patch tokens, minus the initial identity. Values are not negative.
    Attention among other tokens before these layers is left out, as if the network began behind
    it; the evidence counts it.

    Raises
    ------
    MethodError
        If the network has no layer in which all tokens attend to all others, or an attention of
        another kind behind one.
    """

    signed = False
    unit = "attention x logits"

    def requirements(self) -> Requirements:
        """Require the attention probabilities as layers."""
        return Requirements(attention_gradients=True)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, h, w)."""
        recording = request.recording(self.requirements())
        layer = _token_layer(request, recording)
        shapes = attention_shapes(request.model, request.inputs)
        _check_behind(request.model.name, shapes, _length(layer))
        read = tokens_read(request.model, request.inputs, layer)
        found = []
        for seed in request.seeds(recording.logits):
            pairs = [p for p in attention_gradients(recording, seed) if _is_global(p[0], layer)]
            own = torch.eye(_length(layer), dtype=pairs[0][0].dtype, device=pairs[0][0].device)
            relevance = own.expand(len(request.inputs), -1, -1)
            for attention, gradient in pairs:
                relevance = relevance + (gradient * attention).clamp_min(0).mean(1) @ relevance
            row = (relevance - own)[:, read.to(own.device)].mean(dim=1)
            found.append(_attribution(row, layer, len(pairs), shapes, query_tokens=int(read.sum())))
        return found


@dataclass(frozen=True)
class LeGrad(Explainer):
    """The gradient of attention at every layer (Bousselham 2024, arXiv:2404.03214).

    For each layer l the network's own head reads the tokens behind its block as if they were the
    last, which gives a score S_l; the map is the mean over layers, heads and queries of
    max(dS_l/dA_l, 0), A_l being the layer's attention probabilities. Values are not negative;
    the paper's scaling to [0, 1] is left to renderers.

    The head reads the same tokens as always: the class token if there is one.
    (The authors' code for CLIP averages all tokens instead.) Layers with other tokens than the last
    are left out, as class-attention layers are, which belong to the head; the evidence counts them.

    Raises
    ------
    MethodError
        If the network has no layer in which all tokens attend to all others, or one whose block is
        no module.
    """

    signed = False
    unit = "logits per attention"

    def requirements(self) -> Requirements:
        """Require the attention probabilities as layers; `attribute` finds their blocks."""
        return Requirements(attention_gradients=True)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, h, w)."""
        blocks = attention_blocks(request.model, request.inputs)
        recording = request.recording(Requirements(*blocks.values(), attention_gradients=True))
        layer = _token_layer(request, recording)
        layers = {attention: recording.layer(block) for attention, block in blocks.items()}
        alike = [one.shape for one in layers.values() if one.shape[0] == layer.shape[0]]
        # Of the width that the head reads: that of the last of them.
        blocks = {a: block for a, block in blocks.items() if layers[a].shape in alike[-1:]}
        if not blocks:
            raise MethodError(
                "No module of the network holds one attention layer and returns its tokens.",
                "Use a method that needs no blocks: a class activation map.",
            )
        *_, last = blocks.values()
        shapes = attention_shapes(request.model, request.inputs)
        rows = torch.arange(len(request.inputs), device=request.inputs.device)
        found = []
        for seed in request.seeds(recording.logits):
            maps = []
            for attention, block in blocks.items():
                tokens = recording.raw(block)
                vector = rerun_gradient(recording, seed, last, tokens, rows)
                pulled = recording.pull(vector, at=block, to=attention)
                heads = pulled.reshape(len(rows), -1, *pulled.shape[-2:]).clamp_min(0)
                maps.append(heads.mean(dim=(1, 2)))
            row = torch.stack(maps).mean(0)
            head = f"what follows {last}"
            found.append(_attribution(row, layer, len(maps), shapes, head=head))
        return found


def _token_layer(request: ExplainRequest, recording: Recording) -> Layer:
    """Return the token layer; refuse networks without global attention."""
    layer = find_layer("auto", recording.model, recording.inputs)
    zero = torch.zeros_like(recording.logits)
    pairs = attention_gradients(recording, zero) if layer.kind == "tokens" else []
    if not any(_is_global(attention, layer) for attention, _ in pairs):
        raise MethodError(
            f"{request.model.name} has no layer in which all tokens attend to all others.",
            "Use a class activation map, such as grad-cam: it takes any layer with a grid.",
        )
    return layer


def _check_behind(model: str, shapes: Sequence[tuple[int, ...]], length: int) -> None:
    """Refuse attention of another kind behind a layer in which all tokens attend to all others."""
    pairs = [shape[-2:] for shape in shapes]
    others = [pair for pair in pairs[pairs.index((length, length)) :] if pair != (length, length)]
    if others:
        queries, keys = others[0]
        raise MethodError(
            f"{model} has an attention of {queries} tokens to {keys} behind one of all {length} "
            "tokens to all others, over which relevance is not defined.",
            "Use legrad, which needs no product of layers, or a class activation map.",
        )


def _length(layer: Layer) -> int:
    return layer.tokens


def _is_global(attention: Tensor, layer: Layer) -> bool:
    return bool(attention.shape[-1] == _length(layer))


def _attribution(
    row: Tensor, layer: Layer, count: int, shapes: Sequence[tuple[int, ...]], **provenance: Any
) -> Attribution:
    """Return a row (B, tokens), taken from so many attention layers of all, as a map."""
    left_out = len(shapes) - count
    where = {
        "layer": f"{count} of {len(shapes)} attention layers"
        if left_out
        else f"{count} attention layers",
        "layer_reason": "layers in which every token of the last grid attends to every other"
        if left_out
        else "all layers in which every token attends to every other",
    }
    values, others = layer.split(row)
    return Attribution(
        values,
        {
            "other_tokens": others,
            **({"attention_layers_left_out": left_out} if left_out else {}),
        },
        where | provenance,
    )
