"""SmoothGrad: the gradient averaged over noisy copies of the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cvx_core import Attribution, ExplainRequest, OptionError, Requirements
from cvx_core.explainers import in_pieces
from cvx_core.plugins import check_choice
from cvx_gradient_error.saliency import WithOutput

_Gradients = Callable[[int, int], list[Tensor]]
"""From a range of copies to their gradients, (copies, B, C, H, W) for each seed."""

_OUTPUTS = ("sensitivity", "signed")


@dataclass(frozen=True)
class SmoothGrad(WithOutput):
    """The mean gradient of noisy copies of the image (Smilkov 2017, arXiv:1706.03825).

    The seed is that of the clean image, so that all copies have the same target. The evidence
    holds the standard error of the map, averaged over its positions.

    Parameters
    ----------
    copies
        Noisy copies, 2 or more.
    sigma
        Standard deviation of the noise, in shares of the image's range max - min; the paper
        recommends 0.1 to 0.2.
    output
        ``"sensitivity"``: the largest mean gradient of the channels, max_c \\|mean g_c\\|.
        ``"signed"``: sum_c x_c times the mean of g_c, in logits.

    Raises
    ------
    OptionError
        If a parameter is out of its range.
    """

    copies: int = 16
    sigma: float = 0.15
    output: str = "sensitivity"

    def __post_init__(self) -> None:
        check_choice("output", self.output, _OUTPUTS)
        if not isinstance(self.copies, int) or self.copies < 2:
            raise OptionError(f"copies must be an integer, 2 or more, got {self.copies!r}.")
        if not 0 < self.sigma < float("inf"):
            raise OptionError(f"sigma must be finite and above 0, got {self.sigma!r}.")

    def requirements(self) -> Requirements:
        """Require the logits of the clean image."""
        return Requirements()

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        seeds = request.seeds(request.recording(self.requirements()).logits)
        inputs = request.inputs
        sums = [torch.zeros((), dtype=torch.float64, device=inputs.device) for _ in seeds]
        squares = list(sums)
        most = request.at_once // len(inputs)
        for gradients in in_pieces(self.copies, most, self._of_copies(request, seeds)):
            for k, gradient in enumerate(gradients):
                values = gradient.double()
                if self.signed:
                    values = (inputs * values).sum(dim=2, keepdim=True)
                sums[k] = sums[k] + values.sum(dim=0)
                squares[k] = squares[k] + values.square().sum(dim=0)
        return [self._result(*both) for both in zip(sums, squares, strict=True)]

    def _of_copies(self, request: ExplainRequest, seeds: list[Tensor]) -> _Gradients:
        inputs = request.inputs
        span = inputs.amax(dim=(1, 2, 3), keepdim=True) - inputs.amin(dim=(1, 2, 3), keepdim=True)
        # A seed for each copy makes the noise independent of the batch size.
        own = torch.randint(2**62, (self.copies,), generator=request.generator()).tolist()

        def run(start: int, stop: int) -> list[Tensor]:
            noise = torch.stack(
                [
                    torch.randn(inputs.shape[1:], generator=torch.Generator().manual_seed(one))
                    for one in own[start:stop]
                ]
            )
            noisy = inputs + self.sigma * span * noise.to(inputs)[:, None]
            with request.with_inputs(noisy.flatten(0, 1)) as asked:
                recording = asked.recording(Requirements("input"))
                shape = (stop - start, *inputs.shape)
                return [
                    recording.gradients(seed.repeat(stop - start, 1), "input")[0].reshape(shape)
                    for seed in seeds
                ]

        return run

    def _result(self, total: Tensor, squares: Tensor) -> Attribution:
        """Return the map from sums (B, C, H, W) over the copies, one channel if signed."""
        mean = total / self.copies
        variance = (squares - self.copies * mean.square()).clamp_min(0) / (self.copies - 1)
        error = (variance / self.copies).sqrt()
        largest = mean.abs().argmax(dim=1, keepdim=True)
        values = mean.gather(1, largest)[:, 0]
        return Attribution(
            values if self.signed else values.abs(),
            evidence={
                "standard_error": error.gather(1, largest).mean(dim=(1, 2, 3)),
                "copies": self.copies,
            },
            provenance={"layer": "input", "output": self.output},
        )
