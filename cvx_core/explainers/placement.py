"""Placement: contributions of constants on the spatial grid of a map."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from cvx_core.explainers.pyramid import enlarge
from cvx_core.explainers.request import ExplainRequest
from cvx_core.recording import Layer, as_grid


class Grids:
    """Finder of spatial positions in tensors of a forward pass."""

    def __init__(self, request: ExplainRequest) -> None:
        self.size = (request.inputs.shape[2], request.inputs.shape[3])
        self._batch = len(request.inputs)
        layers = request.layout.layers
        self._known = {p.grid for p in layers if p.kind in ("maps", "channels-last")}
        self._lengths = {p.shape[0] for p in layers if p.kind == "tokens"}

    def of(self, part: Tensor) -> Layer | None:
        """Return the layer that a tensor (B, ...) looks like, or None."""
        if part.ndim < 3 or part.shape[0] != self._batch:
            return None
        shape = tuple(part.shape[1:])
        found = as_grid(shape, self.size, self._known, self._lengths)
        return None if found is None else Layer("", "", 0, *found, shape)

    def total(self, part: Tensor) -> Tensor:
        """Return the sums (B,) of a tensor whose first dimension is the batch, or a multiple."""
        if part.shape[0] % self._batch == 0:
            return part.double().reshape(self._batch, -1).sum(1)
        # Batch and windows or positions are indistinguishable here, except with one image.
        return part.double().sum().expand(self._batch) / self._batch

    def place(
        self, parts: Sequence[Tensor | None], onto: Tensor, *, apart: Collection[int] = ()
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Add contributions to maps, each at its own position.

        Parameters
        ----------
        parts
            Contributions of constants as `contributions` returns them.
        onto
            (B, h, w). Other grids are resized smoothly, and keep their sums.
        apart
            Numbers of parts that count as having no position.

        Returns
        -------
        tuple of torch.Tensor
            The maps, what was added to each (B,), and what has no spatial position (B,).
        """
        placed = torch.zeros(self._batch, dtype=torch.float64, device=onto.device)
        elsewhere = placed.clone()
        size = (onto.shape[1], onto.shape[2])
        # Of each size once: to enlarge many maps one by one takes longer than to sum them first.
        sums: dict[tuple[int, int], Tensor] = {}
        for number, part in enumerate(parts):
            if part is None:
                continue
            layer = None if number in apart else self.of(part)
            whole = self.total(part)
            if layer is None:
                elsewhere += whole
                continue
            grid = layer.positions(part)
            inside = grid.double().sum(dim=(1, 2, 3))
            placed += inside
            elsewhere += whole - inside
            grid = grid.sum(1)
            known = sums.get(layer.grid)
            sums[layer.grid] = grid if known is None else known + grid
        for grid in sums.values():
            onto = onto + enlarge(grid, size)
        return onto, placed, elsewhere
