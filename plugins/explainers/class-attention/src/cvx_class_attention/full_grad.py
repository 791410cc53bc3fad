"""FullGrad: contributions of the input and of all biases, summed on the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, Requirements
from cvx_core.explainers import enlarge
from cvx_core.plugins import check_choice
from cvx_core.recording import Layer, as_grid, bias_contributions

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
        x, logits = recording.raw("input"), recording.logits.detach()
        grids = _Grids(request)
        found = []
        for seed in request.seeds(logits):
            carried = x * recording.gradients(seed, "input")[0]
            values = carried.sum(1) if self.signed else _psi(carried, grids.size)
            on_pixels = torch.zeros(len(x), dtype=torch.float64, device=x.device)
            elsewhere = on_pixels.clone()
            for part in bias_contributions(recording, seed):
                layer = grids.of(part)
                # A constant that is the same for all images has no batch dimension.
                whole = _per_image(part, len(x))
                if layer is None:
                    elsewhere += whole
                    continue
                grid = layer.positions(part)
                inside = grid.double().sum(dim=(1, 2, 3))
                on_pixels += inside
                elsewhere += whole - inside
                values = values + (
                    enlarge(grid.sum(1), grids.size) if self.signed else _psi(grid, grids.size)
                )
            evidence = _evidence(
                total=(seed * logits).double().sum(1),
                carried=carried.double().sum(dim=(1, 2, 3)),
                on_pixels=on_pixels,
                elsewhere=elsewhere,
            )
            if not self.signed:  # the saliency map has no meaningful sum
                for key in ("total", "constant_part", "non_pixel_share"):
                    del evidence[key]
            provenance = {"layer": "input", "layer_reason": "all biases", "gates": "frozen"}
            found.append(Attribution(values, evidence, provenance))
        return found


class _Grids:
    """Classifier of tensors: which have spatial positions over the image."""

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


def _per_image(part: Tensor, batch: int) -> Tensor:
    """Return the sums (B,) of a tensor whose first dimension is the batch, or a multiple of it."""
    if part.shape[0] % batch == 0:
        return part.double().reshape(batch, -1).sum(1)
    # Batch and windows or positions are indistinguishable here, except with one image.
    return part.double().sum().expand(batch) / batch


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
