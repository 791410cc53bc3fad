"""Attention rolled out from the prediction back to the patches of a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, MethodError, Recording, Requirements
from cvx_core.recording import find_layer, image_attention, tokens_read


@dataclass(frozen=True)
class AttentionRollout(Explainer):
    """Attention multiplied through the layers (Abnar and Zuidema 2020, arXiv:2005.00928).

    The row of the class token, or the mean over the tokens that the prediction reads, in shares
    of 1;
    independent of the class, and not negative. What lies on tokens that are no place is in
    the evidence.

    Raises
    ------
    MethodError
        If every token attends to every other in none of the network's layers, or not in all.
    """

    signed = False
    unit = "share of attention"
    class_specific = False

    def requirements(self) -> Requirements:
        """Ask for the last grid, and the attention probabilities."""
        return Requirements("auto", attention=True)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map, the same for every seed, (B, h, w)."""
        recording = request.recording(self.requirements())
        one = rolled_out(recording)
        if isinstance(one, MethodError):
            raise one
        return [one for _ in request.seeds(recording.logits)]


def rolled_out(recording: Recording) -> Attribution | MethodError:
    """Return the rollout onto the tokens of the last grid, or why there is none.

    The product tells what reached an output token only if it runs over all attention that changes
    with the image, and every token attends to every other in all of it: not over the windows of
    Swin, the pyramids of LeViT, or without the class-attention layers of CaiT.
    """
    place = find_layer("auto", recording.model, recording.inputs)
    length = place.tokens
    batch = recording.logits.shape[0]
    found = image_attention(recording)
    layers = [
        a.reshape(batch, -1, length, length)
        for a in found
        if a.ndim in (3, 4) and a.shape[0] == batch and a.shape[-1] == a.shape[-2] == length
    ]
    if place.kind != "tokens" or not layers or len(layers) < len(found):
        return MethodError(
            f"In {len(layers)} of {len(found)} attention layers of {recording.model.name} all "
            "tokens of its last grid attend to all others, so attention can't be rolled out.",
            "Use mode=energy of location-attention, or query=(x,y) for what one position reads.",
        )
    joint = rollout([layer.double() for layer in layers])
    read = tokens_read(recording.model, recording.inputs, place)
    row = joint[:, read.to(joint.device)].mean(dim=1)
    values, others = place.split(row)
    return Attribution(
        values,
        evidence={"other_tokens_share": others, "row_sum": row.sum(1)},
        provenance={
            "mode": "rollout",
            "layer": f"{len(layers)} attention layers",
            "layer_reason": "all attention there is; every token attends to every other",
            "query_token": _named_tokens(read),
        },
        unit="share of attention",
    )


def _named_tokens(read: Tensor) -> str:
    count = int(read.sum())
    if count == len(read):
        return "mean of all tokens"
    if count == 1 and bool(read[0]):
        return "class token"
    return f"mean of the {count} tokens that the prediction reads, of {len(read)}"


def rollout(attention: Sequence[Tensor]) -> Tensor:
    """Return the product of 1/2 I + 1/2 mean_heads(A) over layers (Abnar and Zuidema 2020).

    Parameters
    ----------
    attention
        One tensor (B, heads, N, N) for each layer, first layer first.

    Returns
    -------
    torch.Tensor
        (B, N, N): row i tells how much of each input token has reached output token i. No value is
        negative and every row sums to 1 (arXiv:2005.00928).
    """
    joint: Tensor | None = None
    for layer in attention:
        mean = layer.mean(dim=1)
        eye = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
        mixed = 0.5 * mean + 0.5 * eye
        mixed = mixed / mixed.sum(dim=-1, keepdim=True)
        joint = mixed if joint is None else mixed @ joint
    assert joint is not None
    return joint
