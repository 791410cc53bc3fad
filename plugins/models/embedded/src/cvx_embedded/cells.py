"""Candidates of an anchor-free detector, from its outputs at each position."""

from __future__ import annotations

from typing import NamedTuple

import torch

from cvx_core import DetectionCandidates

THRESHOLD, OVERLAP = 0.4, 0.5


class Level(NamedTuple):
    """One level of the feature pyramid.

    Attributes
    ----------
    stride
        Distance between neighbouring cells, in pixels of the network's input.
    height, width
        Number of cells.
    """

    stride: int
    height: int
    width: int


class Cells(NamedTuple):
    """What the network returns: classes and sides in each cell, before anything is thrown away.

    Cells are numbered row by row, the finest level first. The tensors keep their graph.

    X. Li et al., "Generalized Focal Loss", NeurIPS 2020, describes how a side is spread over bins.

    Attributes
    ----------
    class_logits
        (B, N, classes). The classes are independent (sigmoid); there is no background class.
    side_logits
        (B, N, 4, bins): how far left, top, right and bottom lie from the cell's centre. The
        softmax over the bins weighs distances of 0, 1, 2, ... strides.
    levels
        The pyramid's levels; their cells add up to N.
    """

    class_logits: torch.Tensor
    side_logits: torch.Tensor
    levels: tuple[Level, ...]

    def centres(self) -> torch.Tensor:
        """Return the centres of the cells, (N, 2): x and y in pixels of the input."""
        found = []
        for stride, height, width in self.levels:
            rows = (torch.arange(height).to(self.side_logits) + 0.5) * stride
            columns = (torch.arange(width).to(self.side_logits) + 0.5) * stride
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            found.append(torch.stack([x, y], dim=-1).flatten(0, 1))
        return torch.cat(found)

    def strides(self) -> torch.Tensor:
        """Return the stride of each cell's level, (N,), in pixels of the input."""
        return torch.cat(
            [
                self.side_logits.new_full((level.height * level.width,), level.stride)
                for level in self.levels
            ]
        )

    def boxes(self) -> torch.Tensor:
        """Return the boxes (B, N, 4): left, top, right, bottom in pixels of the input.

        They may reach beyond the input. The graph is kept.
        """
        bins = torch.arange(self.side_logits.shape[-1]).to(self.side_logits)
        distances = (self.side_logits.softmax(-1) * bins).sum(-1) * self.strides()[:, None]
        centres = self.centres()
        return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)


def candidates(cells: Cells) -> DetectionCandidates:
    """Return a candidate for each cell, which answers with its best class alone.

    Examples
    --------
    Two cells that see the same thing, and a neighbour that sees nothing:

    >>> sides = torch.zeros(1, 3, 4, 11)  # all bins alike: 5 strides to each side
    >>> scores = torch.tensor([[[2.0], [1.0], [-2.0]]])
    >>> found = candidates(Cells(scores, sides, (Level(8, 1, 3),)))
    >>> found.boxes[0].tolist()[0], found.levels
    ([-36.0, -36.0, 44.0, 44.0], (3,))
    """
    return DetectionCandidates(
        cells.class_logits,
        cells.boxes(),
        threshold=THRESHOLD,
        overlap=OVERLAP,
        single=True,
        levels=tuple(level.height * level.width for level in cells.levels),
    )
