"""RISE: random masks, weighted by what the network still says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core import Attribution, ExplainRequest, OptionError
from cvx_core.explainers import in_pieces
from cvx_core.images import make_baseline
from cvx_location_attention.moments import Moments
from cvx_location_attention.perturbation.scores import Perturbation, scores


@dataclass(frozen=True)
class RISE(Perturbation):
    """How much the score rises when a pixel is kept: the mean over random masks (Petsiuk 2018).

    The paper's map is sum_i S(x . M_i) M_i / (N E[M]) (arXiv:1806.07421, eq. 6): the mean score
    given that the pixel is kept. The mean score of all masks, which lies under every pixel of it
    and says nothing about places, is taken off (see `centred`), so that zero means "keeping it
    changes nothing". The evidence holds that mean and the standard error of the map. The network is
    only run, so that any will do.

    Parameters
    ----------
    masks
        N. The paper takes 4000 to 8000; the error falls with its square root.
    cells
        Cells of the small binary masks along each side.
    keep
        Probability that a cell is kept, which is E[M] too.
    baseline
        What shows where the mask is zero: ``"zero"`` as in the paper, ``"mean"`` or ``"blur"``.
    score
        S is the sum of the seed times each output's ``"probability"`` by the task (softmax of a
        classifier as in the paper, score of a candidate, mean over pixels), or its ``"logit"``.
    centred
        Return the covariance of S and M over E[M] instead of the paper's mean of S M over E[M].

    Raises
    ------
    OptionError
        If a parameter is out of its range.
    """

    masks: int = 1000
    cells: int = 7
    keep: float = 0.5
    baseline: str = "zero"
    score: str = "probability"
    centred: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.masks, int) or self.masks < 2:
            raise OptionError(f"masks must be an integer of at least 2, got {self.masks!r}.")
        if not isinstance(self.cells, int) or self.cells < 1:
            raise OptionError(f"cells must be an integer of at least 1, got {self.cells!r}.")
        if not 0 < self.keep < 1:
            raise OptionError(f"keep must be between 0 and 1, got {self.keep!r}.")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        logits = request.recording(self.requirements()).logits
        seeds = torch.stack(request.seeds(logits))
        inputs = request.inputs
        height, width = inputs.shape[2:]
        masks = Masks.drawn(self, (height, width), request.generator())
        cover = make_baseline(self.baseline, inputs)
        moments = Moments()
        # No covariance depends on an offset, and rounding errors are smaller near zero.
        offset = scores(request, seeds, self.score) * self.centred

        def run(start: int, stop: int) -> tuple[Tensor, Tensor]:
            kept = masks.between(start, stop).to(inputs)
            seen = cover + kept[:, None, None] * (inputs - cover)
            every = seeds[:, None].expand(-1, stop - start, -1, -1).flatten(1, 2)
            found = scores(request, every, self.score, seen.flatten(0, 1))
            found = found.reshape(len(seeds), stop - start, -1) - offset[:, None]
            return kept, found.transpose(0, 1)

        for kept, found in in_pieces(self.masks, request.at_once // len(inputs), run):
            moments.add(found.flatten(1), kept.flatten(1))
        values, error = moments.covariance() if self.centred else moments.product()
        shape = (len(seeds), len(inputs), height, width)
        values, error = ((one / self.keep).reshape(shape) for one in (values, error))
        means = moments.mean().reshape(shape[:2]) + offset
        return [
            Attribution(
                values[k],
                {
                    "masks": self.masks,
                    "mean_score": means[k],
                    "standard_error": error[k].mean(dim=(1, 2)),
                },
                {"layer": "input"},
            )
            for k in range(len(seeds))
        ]


@dataclass(frozen=True)
class Masks:
    """Random masks as the paper makes them: small, binary, enlarged, and shifted.

    Drawn once; the enlarged ones are made as they are needed, for no memory holds them all.

    Attributes
    ----------
    small
        (N, 1, cells, cells), zeros and ones.
    shifts
        (N, 2), in pixels: less than a cell down and to the right.
    size
        (H, W).
    """

    small: Tensor
    shifts: Tensor
    size: tuple[int, int]

    @classmethod
    def drawn(cls, rise: RISE, size: tuple[int, int], generator: torch.Generator) -> Masks:
        """Draw the masks of an explainer for inputs of a size."""
        small = torch.rand(rise.masks, 1, rise.cells, rise.cells, generator=generator) < rise.keep
        down, right = (-(-side // rise.cells) for side in size)
        shifts = [torch.randint(most, (rise.masks,), generator=generator) for most in (down, right)]
        return cls(small.double(), torch.stack(shifts, 1), size)

    def between(self, start: int, stop: int) -> Tensor:
        """Return the masks from `start` to `stop`, (n, H, W), in [0, 1]."""
        height, width = self.size
        cells = self.small.shape[-1]
        enlarged = F.interpolate(
            self.small[start:stop],
            size=tuple((cells + 1) * -(-side // cells) for side in self.size),
            mode="bilinear",
            align_corners=False,
        )
        return torch.stack(
            [
                one[0, y : y + height, x : x + width]
                for one, (y, x) in zip(enlarged, self.shifts[start:stop].tolist(), strict=True)
            ]
        )
