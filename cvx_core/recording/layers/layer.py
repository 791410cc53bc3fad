"""Layer of a network: a module's output, read as a grid of spatial positions with channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["maps", "channels-last", "tokens", "channel-tokens", "input"]


@dataclass(frozen=True)
class Layer:
    """A module's output with a spatial grid.

    Attributes
    ----------
    name
        The module's name, ``name#k`` for the k-th call (from 0) of a module that is used more
        than once, or ``"input"``.
    module, call
        The module's name without the call, and which call.
    kind
        How the tensor is laid out: ``maps`` (B, C, h, w), ``channels-last`` (B, h, w, C),
        ``tokens`` (B, prefix + h * w + suffix, C), ``channel-tokens`` (B, C, prefix + h * w), or
        the network's ``input`` (B, C, H, W).
    grid
        (h, w).
    prefix
        Number of tokens (class, distillation, register) before those of the grid.
    shape
        Shape of the tensor without its batch dimension.
    reason
        Why this layer was chosen.
    suffix
        Number of tokens (of a detector, say) behind those of the grid.
    """

    name: str
    module: str
    call: int
    kind: Kind
    grid: tuple[int, int]
    prefix: int
    shape: tuple[int, ...]
    reason: str = ""
    suffix: int = 0

    @property
    def tokens(self) -> int:
        """Number of all tokens, with and without a position."""
        return self.prefix + self.grid[0] * self.grid[1] + self.suffix

    def split(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return a value for each token (B, tokens) as a map (B, h, w), and the sum of the others.

        The others are the tokens without a position, (B,).
        """
        stop = self.tokens - self.suffix
        others = row[:, : self.prefix].sum(1) + row[:, stop:].sum(1)
        return row[:, self.prefix : stop].reshape(-1, *self.grid), others

    def positions(self, tensor: Tensor) -> Tensor:
        """Return the spatial positions of a tensor of this layer as (B, C, h, w)."""
        # Views wherever possible: callers write into them, to exchange single positions.
        if self.kind == "channels-last":
            return tensor.permute(0, 3, 1, 2)
        if self.kind == "tokens":
            tokens = tensor[:, self.prefix : self.tokens - self.suffix].transpose(1, 2)
            return tokens.reshape(*tokens.shape[:2], *self.grid)
        if self.kind == "channel-tokens":
            tokens = tensor[:, :, self.prefix :]
            return tokens.reshape(*tokens.shape[:2], *self.grid)
        return tensor

    def other_tokens(self, tensor: Tensor) -> Tensor:
        """Return the tokens without a spatial position (class and register tokens), (B, n, C)."""
        if self.kind == "tokens":
            before, behind = tensor[:, : self.prefix], tensor[:, self.tokens - self.suffix :]
            return torch.cat([before, behind], dim=1) if self.suffix else before
        if self.kind == "channel-tokens":
            return tensor[:, :, : self.prefix].transpose(1, 2)
        return tensor.new_zeros((tensor.shape[0], 0, 1))


def as_grid(
    shape: tuple[int, ...],
    input_size: tuple[int, int],
    known: set[tuple[int, int]],
    lengths: set[int],
    *,
    features_last: bool = False,
) -> tuple[Kind, tuple[int, int], int] | None:
    """Read a shape (without the batch dimension) as a grid of spatial positions.

    Parameters
    ----------
    shape
        (C, h, w), (h, w, C), (N, C) or (C, N).
    input_size
        (H, W) of the network's input.
    known
        Grids (h, w) of four-dimensional tensors of this network.
    lengths
        Numbers of tokens N in this network: an (N, N) array is attention and not a grid.
    features_last
        Whether the last dimension of (N, C) is known to hold features: of 100 queries with 256
        features, the features are no grid of 16 x 16.

    Returns
    -------
    Kind, grid (h, w) of more than one position, and number of tokens before it; or None.
    """
    # Channels first where both readings fit, as in (64, 64, 64): by far the most common.
    if len(shape) == 3:
        c, h, w = shape
        if fits((h, w), input_size) and not (h == w and h in lengths):
            return "maps", (h, w), 0
        if fits((c, h), input_size) and not (c == h and c in lengths):
            return "channels-last", (c, h), 0
        return None
    if len(shape) != 2 or 1 in shape:
        return None
    kinds: tuple[tuple[Kind, int], ...] = (("tokens", shape[0]), ("channel-tokens", shape[1]))
    for kind, length in kinds[:1] if features_last else kinds:
        found = token_grid(length, known)
        if found is not None:
            return kind, found[0], found[1]
    # No tensor of four dimensions has this grid: later stages may merge tokens without ever making
    # maps of them (Swin in transformers).
    found = token_grid(shape[0], stride_grids(input_size))
    return None if found is None else ("tokens", found[0], found[1])


def fits(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a grid has the proportions of the input, except for its borders."""
    (h, w), (height, width) = grid, size
    if h * w < 2 or h > height or w > width:
        return False
    return (
        abs(h * width - w * height) <= max(height, width) * max(1.0, 0.05 * min(h, w))
        or abs(height / h - width / w) < 1e-9
    )


# Class, distillation and register tokens together. More would be another grid.
MOST_PREFIX = 16


def token_grid(length: int, grids: set[tuple[int, int]]) -> tuple[tuple[int, int], int] | None:
    """Return the grid, of those given, and the number of tokens before it."""
    # The fewest tokens before: 197 tokens are 14 x 14 and one more, not 13 x 13 and 28.
    options = [(grid, length - grid[0] * grid[1]) for grid in grids]
    fitting = [
        (grid, before)
        for grid, before in options
        if grid[0] * grid[1] > 1 and 0 <= before <= min(MOST_PREFIX, grid[0] * grid[1] // 2)
    ]
    return min(fitting, key=lambda option: option[1]) if fitting else None


def stride_grids(size: tuple[int, int]) -> set[tuple[int, int]]:
    """Return the grids of all strides that divide an input (H, W)."""
    height, width = size
    return {
        (height // s, width // s)
        for s in range(1, min(height, width))
        if height % s == 0 and width % s == 0
    }


def first_tensor(output: Any) -> Tensor | None:
    """Return the tensor of a module's output that is recorded: the first with a grid's rank."""
    if isinstance(output, Tensor):
        return output
    items: Any = ()
    if isinstance(output, Mapping):
        items = output.values()
    elif isinstance(output, tuple | list):
        items = output
    tensors = [t for t in map(first_tensor, items) if t is not None and t.is_floating_point()]
    return next((t for t in tensors if t.ndim in (3, 4)), tensors[0] if tensors else None)


def with_tensor(output: Any, old: Tensor, new: Tensor) -> Any:
    """Return a module's output with one tensor replaced by another."""
    if output is old:
        return new
    if isinstance(output, Mapping):
        # Outputs of transformers' models are mappings whose fields are keyword arguments.
        changed = {key: with_tensor(value, old, new) for key, value in output.items()}
        try:
            return type(output)(**changed)
        except TypeError:
            return type(output)(changed)  # type: ignore[call-arg]
    if isinstance(output, tuple | list):
        parts = [with_tensor(part, old, new) for part in output]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return output


def computed_again(output: Any) -> Any:
    """Return a recomputed output as the forward pass returned it, for checkpointed modules."""
    # The operations behind it must save what they saved in the forward pass, where this tensor was
    # a copy that required a gradient.
    tensor = first_tensor(output)
    if tensor is None:
        return None
    node = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
    return with_tensor(output, tensor, node.clone())


def batch_first(tensor: Tensor, batch: int) -> bool:
    """Whether a tensor's first dimension is the batch."""
    return tensor.ndim >= 2 and tensor.shape[0] == batch
