"""Class activation maps of fine levels of a network: smoothing, and gradients along a path."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_class_attention.weightings import hires_cam
from cvx_core import ExplainRequest, Requirements
from cvx_core.explainers import in_pieces
from cvx_core.images import make_baseline
from cvx_core.recording import (
    Layer,
    find_finer_levels,
    find_last_grid,
    has_bypass,
    tokens_read,
)

STEPS = 8
"""Gradients along the path."""
BASELINE = "mean"
"""Where the path begins; see `cvx_core.images.make_baseline`."""
_NOISE = 0.1
"""Standard deviation of the noise, in shares of the image's range."""
_FINER = 4
"""How many times finer than the last grid a level is at most: before it gradients are noise."""
_TRIED = 8
"""Layers of tokens that are tested at most, each by a forward pass of two images."""
_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


def finer_levels(request: ExplainRequest) -> tuple[Layer, ...]:
    """Return the last layer of each finer grid that all paths pass, coarsest first."""
    return find_finer_levels(request.model, request.inputs, _FINER)


def first_tokens(request: ExplainRequest) -> tuple[Layer, ...]:
    """Return the first layer that all paths pass with the grid of the last tokens, if any.

    In a vision transformer it is the embedding of the patches.
    """
    last = find_last_grid(request.model, request.inputs)
    if "tokens" not in last.kind:
        return ()
    alike = [one for one in request.layout.layers if one.grid == last.grid][:_TRIED]
    passed = (one for one in alike if not has_bypass(one, request.model, request.inputs))
    return tuple(passed)[:1]


def reads_no_position(request: ExplainRequest) -> bool:
    """Whether the output reads class or detection tokens alone, and none of the grid's."""
    last = find_last_grid(request.model, request.inputs)
    if last.kind != "tokens" or last.tokens == last.grid[0] * last.grid[1]:
        return False
    read = tokens_read(request.model, request.inputs, last)
    return not bool(read[last.prefix : last.tokens - last.suffix].any())


def maps_on_path(
    request: ExplainRequest,
    seeds: Sequence[Tensor],
    activations: Sequence[Tensor],
    layers: Sequence[Layer],
) -> list[list[Tensor]]:
    """Return for each seed smoothed maps (B, h, w) of layers, with gradients along a path.

    HiResCAM with the mean gradient over noisy images x' + t (x - x'), t from 0 to 1, x' being the
    mean color of the image x; the activations (B, C, h, w) are those of x.
    """
    most = request.at_once // len(request.inputs)
    pieces = in_pieces(STEPS, most, _gradients(request, seeds, layers))
    sums = [
        [torch.stack(s).sum(0) for s in zip(*k, strict=True)] for k in zip(*pieces, strict=True)
    ]
    return [
        [
            smoothed(hires_cam(activation.to(total), total / STEPS))
            for activation, total in zip(activations, totals, strict=True)
        ]
        for totals in sums
    ]


def _gradients(
    request: ExplainRequest, seeds: Sequence[Tensor], layers: Sequence[Layer]
) -> Callable[[int, int], list[list[Tensor]]]:
    """Return what sums gradients over a range of steps, (B, C, h, w) for each seed and layer."""
    inputs, names = request.inputs, [layer.name for layer in layers]
    baseline = make_baseline(BASELINE, inputs)
    span = inputs.amax(dim=(1, 2, 3), keepdim=True) - inputs.amin(dim=(1, 2, 3), keepdim=True)
    # A seed for each step makes the noise independent of the batch size.
    own = torch.randint(2**62, (STEPS,), generator=request.generator()).tolist()

    def run(start: int, stop: int) -> list[list[Tensor]]:
        points = []
        for step in range(start, stop):
            generator = torch.Generator().manual_seed(own[step])
            noise = torch.randn(inputs.shape[1:], generator=generator).to(inputs)
            points.append(
                torch.lerp(baseline, inputs, (step + 0.5) / STEPS) + _NOISE * span * noise
            )
        with request.with_inputs(torch.cat(points)) as asked:
            recording = asked.recording(Requirements(*names))
            found = []
            for seed in seeds:
                gradients = recording.gradients(seed.repeat(stop - start, 1), *names)
                parts = (
                    torch.stack(layer.positions(gradient).chunk(stop - start))
                    for layer, gradient in zip(layers, gradients, strict=True)
                )
                # Half precision holds gradients, but not their sums.
                kind = torch.promote_types(seed.dtype, torch.float32)
                found.append([part.sum(0, dtype=kind) for part in parts])
            return found

    return run


def weighted(coarse: Tensor, fine: Sequence[Tensor]) -> Tensor:
    """Return a coarse map (B, h, w) weighted by finer ones, on the finest grid (B, H, W).

    The finer maps are scaled by their largest absolute values and added up. Where the sum has the
    sign of the coarse map, its absolute value, in shares of the largest, is the weight; elsewhere
    the weight is 0. The coarse map is enlarged, and its values are spread over the finer grid.

    Examples
    --------
    >>> weighted(torch.tensor([[[4.0, -2.0, 1.0]]]), [torch.tensor([[[5.0, -10.0, -1.0]]])])
    tensor([[[ 2., -2.,  0.]]])
    """
    size = max((one.shape[1:] for one in fine), key=lambda shape: shape[0] * shape[1])
    total = _scaled(torch.stack([_scaled(_enlarged(one, size)) for one in fine]).sum(0))
    spread = _enlarged(coarse, size) * (coarse[0].numel() / size.numel())
    return spread * (spread.sign() * total).clamp_min(0)


def smoothed(values: Tensor) -> Tensor:
    """Return maps (B, h, w) filtered by a Gaussian of one position, borders repeated."""
    kernel = torch.tensor(_BINOMIAL, dtype=values.dtype, device=values.device)
    kernel = kernel / kernel.sum()
    padded = F.pad(values[:, None], (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])[:, 0]


def _enlarged(values: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(values[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]


def _scaled(values: Tensor) -> Tensor:
    largest = values.abs().amax(dim=(1, 2), keepdim=True)
    return values / torch.where(largest > 0, largest, 1)
