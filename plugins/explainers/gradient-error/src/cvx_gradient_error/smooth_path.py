"""Smoothed gradients on the path from a blurred image, per contrast, at two scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, OptionError, Requirements
from cvx_core.explainers import agreement, in_pieces

_NOISE = 0.1
"""Standard deviation of the noise, in shares of the image's range."""
_BLUR = 8
"""Standard deviation of the blur that the path begins with: the shorter side over this."""
_FLOOR = 0.05
"""What is added to the squares of the contrast, in shares of their mean."""
_SCALES = (28, 7)
"""Standard deviations of the two filters: the shorter side over these."""


@dataclass(frozen=True)
class SmoothPath(Explainer):
    """Change of the score with local contrast, where a fine and a coarse scale agree.

    With d = x - x', x' being the image blurred by a Gaussian an eighth of its shorter side wide
    (standard deviation), and g the mean gradient over noisy images x' + t d, t from 0 to 1
    (integrated gradients, arXiv:1703.01365; noise as in SmoothGrad, arXiv:1706.03825), a Gaussian
    filter G gives

        map_G = G * sum_c d_c g_c / sqrt(G * sum_c d_c^2).

    The division keeps a part of the image from standing out because its contrast is strong. G is
    1/28 and 1/7 of the shorter side wide; both maps are scaled by their largest absolute values,
    and a pixel gets the value nearest to zero, or 0 where signs differ, in units of the finer map.

    Parameters
    ----------
    steps
        Gradients along the path.
    """

    steps: int = 32

    unit = "logits per unit of contrast"

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or not 1 <= self.steps <= 1000:
            raise OptionError(f"steps must be an integer from 1 to 1000, got {self.steps!r}.")

    def requirements(self) -> Requirements:
        """Require the logits of the image."""
        return Requirements()

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        seeds = request.seeds(request.recording(self.requirements()).logits)
        inputs = request.inputs
        side = min(inputs.shape[2:])
        difference = inputs - blurred(inputs.flatten(0, 1), side / _BLUR, "replicate").reshape(
            inputs.shape
        )
        most = request.at_once // len(inputs)
        pieces = in_pieces(self.steps, most, self._on_path(request, seeds, difference))
        sums = [torch.stack(several).sum(0) for several in zip(*pieces, strict=True)]
        contrast = difference.double().square().sum(dim=1)
        filtered = {
            scale: (blurred(contrast, side / scale) + _FLOOR * contrast.mean((1, 2), keepdim=True))
            for scale in _SCALES
        }
        found = []
        for total in sums:
            product = (difference.double() * total).sum(dim=1) / self.steps
            fine, coarse = (
                blurred(product, side / scale) / _positive(filtered[scale]).sqrt()
                for scale in _SCALES
            )
            found.append(
                Attribution(
                    agreement([fine, coarse]),
                    evidence={"path_gradients": self.steps},
                    provenance={
                        "layer": "input",
                        "baseline": f"Gaussian blur, sigma {side / _BLUR:.1f} px",
                    },
                    additive=False,
                )
            )
        return found

    def _on_path(
        self, request: ExplainRequest, seeds: list[Tensor], difference: Tensor
    ) -> Callable[[int, int], list[Tensor]]:
        inputs = request.inputs
        span = inputs.amax(dim=(1, 2, 3), keepdim=True) - inputs.amin(dim=(1, 2, 3), keepdim=True)
        # A seed for each step makes the noise independent of the batch size.
        own = torch.randint(2**62, (self.steps,), generator=request.generator()).tolist()

        def run(start: int, stop: int) -> list[Tensor]:
            points = []
            for step in range(start, stop):
                generator = torch.Generator().manual_seed(own[step])
                noise = torch.randn(inputs.shape[1:], generator=generator).to(inputs)
                left = 1 - (step + 0.5) / self.steps
                points.append(inputs - left * difference + _NOISE * span * noise)
            with request.with_inputs(torch.cat(points)) as asked:
                recording = asked.recording(Requirements("input"))
                shape = (stop - start, *inputs.shape)
                return [
                    recording.gradients(seed.repeat(stop - start, 1), "input")[0]
                    .reshape(shape)
                    .double()
                    .sum(0)
                    for seed in seeds
                ]

        return run


def blurred(values: Tensor, sigma: float, outside: str = "constant") -> Tensor:
    """Return maps (B, H, W) filtered by a Gaussian of `sigma` pixels.

    `outside` is the mode of `torch.nn.functional.pad`: zeros, or ``"replicate"`` for the edge.
    """
    reach = max(1, round(2 * sigma))
    line = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    kernel = (-0.5 * (line / sigma) ** 2).exp()
    kernel = kernel / kernel.sum()
    padded = F.pad(values[:, None], (reach,) * 4, mode=outside)
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])[:, 0]


def _positive(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1)
