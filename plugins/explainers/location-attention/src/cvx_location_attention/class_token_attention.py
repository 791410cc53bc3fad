"""Attention of the class token to the patches, in the last layer of a transformer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from cvx_core import (
    Attribution,
    Explainer,
    ExplainRequest,
    MethodError,
    OptionError,
    Recording,
    Requirements,
)
from cvx_core.recording import Layer, find_layer, image_attention, tokens_read


@dataclass(frozen=True)
class ClassTokenAttention(Explainer):
    """Attention of the class token in the last layer (Caron 2021, arXiv:2104.14294).

    The row of the class token of one head, or the mean over heads, at the patches: in shares of 1,
    of which the class and register tokens have the rest. A single query that pools all tokens, as
    in CaiT or SigLIP, counts as the class token. Independent of the class, and not negative.

    Parameters
    ----------
    head
        Index of the head, from 0; None for the mean over all heads.

    Raises
    ------
    OptionError
        If there is no such head.
    MethodError
        If the prediction reads no class token, or the last attention isn't over the tokens of the
        last grid.
    """

    head: int | None = None

    signed = False
    unit = "share of attention"
    class_specific = False

    def __post_init__(self) -> None:
        if self.head is not None and self.head < 0:
            raise OptionError(f"head must be at least 0, got {self.head}.")

    def requirements(self) -> Requirements:
        """Ask for the last grid, and the attention probabilities."""
        return Requirements("auto", attention=True)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map, the same for every seed, (B, h, w)."""
        recording = request.recording(self.requirements())
        grid = find_layer("auto", recording.model, recording.inputs)
        found = image_attention(recording)
        rows, token = class_token_rows(recording, grid, found)
        if self.head is not None and self.head >= rows.shape[1]:
            raise OptionError(
                f"head must be less than {rows.shape[1]}, the number of heads, got {self.head}."
            )
        row = rows.mean(dim=1) if self.head is None else rows[:, self.head]
        if row.shape[1] != grid.tokens:  # of one query, which may attend to itself
            before = row.shape[1] - grid.grid[0] * grid.grid[1]
            grid = replace(grid, prefix=before, suffix=0)
        values, others = grid.split(row)
        one = Attribution(
            values,
            evidence={"other_tokens_share": others, "row_sum": row.sum(1)},
            provenance={
                "layer": f"last of {len(found)} attention layers",
                "layer_reason": "its class token is what the prediction reads",
                "query_token": token,
                "heads": rows.shape[1],
            },
        )
        return [one for _ in request.seeds(recording.logits)]


def class_token_rows(
    recording: Recording, grid: Layer, attention: list[Tensor]
) -> tuple[Tensor, str]:
    """Return the class token's rows of the last attention (B, heads, tokens), and its name.

    Raises
    ------
    MethodError
        If the prediction reads no class token, or the last attention isn't over these tokens.
    """
    name, batch, patches = recording.model.name, len(recording.logits), grid.grid[0] * grid.grid[1]
    last = attention[-1] if attention else None
    if last is not None and last.ndim == 3:
        last = last[:, None]
    if last is None or last.ndim != 4 or len(last) != batch:
        raise MethodError(
            f"{name} has no attention layer over all tokens at its end.",
            "Use energy, or a class activation map: they take any layer with a grid.",
        )
    queries, keys = last.shape[-2:]
    if queries == 1 and 0 <= keys - patches <= max(1, grid.prefix):
        return last[:, :, 0].float(), "the only query"
    if grid.kind != "tokens" or not queries == keys == grid.tokens:
        raise MethodError(
            f"The last attention of {name} is of {queries} tokens to {keys}, and its last grid has "
            f"{patches} positions and {grid.prefix + grid.suffix} other tokens.",
            "Use energy, or a class activation map: they take any layer with a grid.",
        )
    found = tokens_read(recording.model, recording.inputs, grid).clone()
    found[grid.prefix : grid.prefix + patches] = False
    read = found.nonzero()[:, 0].tolist()
    if not read:
        raise MethodError(
            f"The prediction of {name} reads no class token.",
            "Use attention-rollout, which starts from the tokens that it reads.",
        )
    if read[0] >= grid.prefix:
        rows = last[:, :, read].float().mean(2)
        return rows, f"mean of the tokens {read[0]} to {read[-1]} of {keys}"
    return last[:, :, read[0]].float(), f"token {read[0]} of {keys}"
