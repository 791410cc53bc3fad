"""FullGrad: contributions of the input and of all biases, summed on the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, Requirements
from cvx_core.explainers import Grids
from cvx_core.plugins import check_choice
from cvx_core.recording import contributions

_OUTPUTS = ("signed", "saliency")


@dataclass(frozen=True)
class FullGrad(Explainer):
    """The full gradient of a score (Srinivas and Fleuret 2019, arXiv:1905.00780).

    A ReLU network is piecewise affine, so that its score is the sum of the contributions of the
    input and all biases (proposition 1):

        S = <dS/dx, x> + sum over biases b of <dS/db, b>.

    Biases are all added constants: those of convolutions and normalization, and position
    embeddings. The network's gates are frozen, which changes nothing in a ReLU network and makes
    the sum exact in any other.

    Parameters
    ----------
    output
        ``"signed"``: the contributions, summed over channels and enlarged to the pixels. With the
        parts without a position (biases behind the last grid, class tokens) the map sums to S.
        ``"saliency"``: the paper's map, psi(dS/dx * x) + the sum over layers and channels of
        psi(dS/db * b), psi being the absolute value, scaled to [0, 1] in each layer (as in the
        authors' code) and enlarged bilinearly. It has no sign and no meaningful sum.
    """

    output: str = "signed"

    def __post_init__(self) -> None:
        check_choice("output", self.output, _OUTPUTS)

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether the map is the signed one."""
        return self.output == "signed"

    @property
    def unit(self) -> str:  # type: ignore[override]
        """Logits, or for the paper's map shares of the largest value of each layer."""
        return "logits" if self.signed else "sum of shares"

    def requirements(self) -> Requirements:
        """Require the input and all constants, with frozen gates."""
        return Requirements("input", gates="frozen", constants=True)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        recording = request.recording(self.requirements())
        logits, grids = recording.logits.detach(), Grids(request)
        found = []
        for seed in request.seeds(logits):
            product, parts = contributions(recording, seed, "input")
            values = product.sum(1)
            carried = values.double().sum(dim=(1, 2))
            values, on_pixels, elsewhere = grids.place(parts, values)
            if not self.signed:
                values = _psi(product, grids.size)
                for part in parts:
                    if part is not None and (layer := grids.of(part)) is not None:
                        values = values + _psi(layer.positions(part), grids.size)
            evidence = _evidence(
                total=(seed * logits).double().sum(1),
                carried=carried,
                on_pixels=on_pixels,
                elsewhere=elsewhere,
            )
            if not self.signed:  # the saliency map has no meaningful sum
                for key in ("total", "constant_part", "non_pixel_share"):
                    del evidence[key]
            provenance = {"layer": "input", "layer_reason": "all biases", "gates": "frozen"}
            found.append(Attribution(values, evidence, provenance))
        return found


def _psi(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Return |grid| (B, C, h, w), scaled to [0, 1] per image, enlarged, summed over channels."""
    values = grid.abs()
    low, high = values.amin(dim=(1, 2, 3), keepdim=True), values.amax(dim=(1, 2, 3), keepdim=True)
    values = (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
    # Interpolation is linear, so that the sum can come first.
    summed = values.sum(dim=1, keepdim=True)
    return F.interpolate(summed, size, mode="bilinear", align_corners=False)[:, 0]


def _evidence(
    total: Tensor, carried: Tensor, on_pixels: Tensor, elsewhere: Tensor
) -> dict[str, Any]:
    """Return the parts of the score, all (B,), in logits, and the residual."""
    gap = (total - carried - on_pixels - elsewhere).abs()
    parts = torch.stack([total, carried, on_pixels, elsewhere]).abs()
    largest = parts.amax(dim=0)
    whole = ((carried + on_pixels).abs() + elsewhere.abs()).clamp_min(1e-300)
    return {
        "total": total,
        "input_part": carried,
        "bias_part": on_pixels,
        "constant_part": elsewhere,
        "residual": torch.where(largest > 0, gap / largest.clamp_min(1e-300), gap),
        "non_pixel_share": elsewhere.abs() / whole,
    }
