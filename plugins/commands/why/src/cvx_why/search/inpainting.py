"""Inpainting and other fills of a perturbed region."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Fill = Callable[[Tensor, Tensor], Tensor]
"""From images (B, C, H, W) and masks (B, 1, H, W), true in the region, to images with the region
filled. Other pixels are unchanged except for a soft rim."""

_SMOOTHED = 32


def inpaint(images: Tensor, masks: Tensor) -> Tensor:
    """Continue the surroundings smoothly into the region.

    Known pixels are averaged into coarser and coarser grids, and unknown pixels take the value of
    the finest grid that covers them (push-pull: Gortler et al., "The Lumigraph", SIGGRAPH 1996).
    The region is then relaxed towards the membrane over its rim, without edges or texture that a
    network could read.
    """
    known = (~masks).to(images)
    levels = [(images * known, known)]
    while bool((levels[-1][1] == 0).any()) and min(levels[-1][0].shape[2:]) > 1:
        levels.append(tuple(F.avg_pool2d(part, 2, ceil_mode=True) for part in levels[-1]))  # type: ignore[arg-type]
    values, weight = levels.pop()
    filled = values / weight.clamp_min(1e-6)
    for values, weight in reversed(levels):
        coarse = F.interpolate(filled, size=values.shape[2:], mode="bilinear", align_corners=False)
        # A coarse pixel that is known in part counts by that share.
        filled = values + (1 - weight) * coarse
    return torch.stack([_relaxed(*one) for one in zip(filled, images, masks, strict=True)])


def _relaxed(filled: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Return (C, H, W) after repeated averaging of each unknown pixel with its neighbors."""
    rows, columns = mask[0].any(1).nonzero(), mask[0].any(0).nonzero()
    if not len(rows):
        return image
    # Only the region and the known pixels around it are needed.
    around = (
        slice(None),
        slice(max(0, int(rows[0]) - 1), int(rows[-1]) + 2),
        slice(max(0, int(columns[0]) - 1), int(columns[-1]) + 2),
    )
    within, known, values = mask[around], image[around], filled[around]
    for _ in range(_SMOOTHED):
        padded = F.pad(values[None], (1, 1, 1, 1), mode="replicate")[0]
        three = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
        nine = three[..., :-2] + three[..., 1:-1] + three[..., 2:]
        values = torch.where(within, nine / 9, known)
    result = image.clone()
    result[around] = values
    return result


def blur(images: Tensor, masks: Tensor) -> Tensor:
    """Blur the region with a Gaussian of a twelfth of the shorter side."""
    return _blend(smooth(images, min(images.shape[2:]) / 12), images, masks)


def mean(images: Tensor, masks: Tensor) -> Tensor:
    """Fill the region with the mean color of the image."""
    return _blend(images.mean(dim=(2, 3), keepdim=True), images, masks)


def elsewhere(images: Tensor, masks: Tensor) -> Tensor:
    """Fill the region from half an image further down and right, with the texture there."""
    height, width = images.shape[2:]
    return _blend(images.roll((height // 2, width // 2), (2, 3)), images, masks)


def _blend(fill: Tensor, images: Tensor, masks: Tensor) -> Tensor:
    """Blend a fill into the region with a soft rim, because a sharp one would be a new edge."""
    sigma = min(images.shape[2:]) / 112
    reach = max(1, round(2 * sigma))
    grown = dilate(masks.to(images), reach)
    weight = torch.where(masks, torch.ones_like(grown), smooth(grown, sigma))
    return weight * fill + (1 - weight) * images


def dilate(maps: Tensor, reach: int) -> Tensor:
    """Return the maximum of maps (B, C, H, W) over the square around each pixel."""
    rows = F.max_pool2d(maps, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return F.max_pool2d(rows, (2 * reach + 1, 1), stride=1, padding=(reach, 0))


def from_image(other: Tensor) -> Fill:
    """Return the fill that copies the region from another image (1, C, H, W)."""
    return lambda images, masks: _blend(other.to(images), images, masks)


def smooth(maps: Tensor, sigma: float, *, density: bool = False) -> Tensor:
    """Smooth maps (B, C, H, W) with a Gaussian of `sigma` pixels.

    Images are padded with their edge pixels. A `density` is padded with zeros, so that values at
    an edge don't count more than once.
    """
    reach = max(1, min(round(3 * sigma), min(maps.shape[2:]) - 1))
    x = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (x / max(sigma, 1e-3)) ** 2)
    kernel = kernel / kernel.sum()
    channels = maps.shape[1]
    padded = F.pad(maps, (reach,) * 4, mode="constant" if density else "replicate")
    rows = F.conv2d(padded, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    columns = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    return F.conv2d(rows, columns, groups=channels)


FILLS: dict[str, Fill] = {"inpaint": inpaint, "blur": blur, "mean": mean}
"""The fills of the verification, by their names in reports."""
