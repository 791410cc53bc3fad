"""What a detector without anchors says in each cell, and the detections that come of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torchvision.ops import batched_nms


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


class Candidates(NamedTuple):
    """What the network returns: one candidate for each cell, before anything is thrown away.

    Candidates are numbered row by row, the finest level first. The tensors keep their graph.

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
        """Return the stride of each candidate's level, (N,), in pixels of the input."""
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


class Detections(NamedTuple):
    """The detections in one image, the highest score first.

    Attributes
    ----------
    boxes
        (D, 4): left, top, right, bottom in pixels of the network's input.
    scores
        (D,), above the threshold, at most 1.
    classes
        (D,), indices.
    candidates
        (D,): the number of the candidate that each came from.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor
    candidates: torch.Tensor


def detections(
    candidates: Candidates, threshold: float = 0.4, overlap: float = 0.5
) -> list[Detections]:
    """Return what is left after the threshold and non-maximum suppression, for each image.

    Parameters
    ----------
    candidates
        What the network returned.
    threshold
        A candidate stays if the score of its best class is above this.
    overlap
        Of two boxes of one class whose intersection over union is above this, the one with the
        lower score goes.

    Examples
    --------
    Two cells that see the same thing, and one of its neighbours that sees nothing:

    >>> sides = torch.zeros(1, 3, 4, 11)  # all bins alike: 5 strides to each side
    >>> scores = torch.tensor([[[2.0], [1.0], [-2.0]]])
    >>> [found] = detections(Candidates(scores, sides, (Level(8, 1, 3),)))
    >>> found.boxes.tolist(), found.candidates.tolist()
    ([[-36.0, -36.0, 44.0, 44.0]], [0])
    """
    found = []
    for boxes, logits in zip(candidates.boxes(), candidates.class_logits, strict=True):
        scores, classes = logits.sigmoid().max(dim=-1)
        [above] = torch.where(scores > threshold)
        # torchvision suppresses in no half precision on a CPU.
        kept = batched_nms(
            boxes[above].float(), scores[above].float(), classes[above], iou_threshold=overlap
        )
        left = above[kept]
        found.append(Detections(boxes[left], scores[left], classes[left], left))
    return found
