"""What takes the place of a removed region: guesses at the picture without it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Fill = Callable[[Tensor, Tensor], Tensor]
"""Takes images (B, C, H, W) and masks (B, 1, H, W), true where they are to be replaced, and gives
the images with those pixels replaced, and all others as they were but for a soft rim."""

_SMOOTHED = 32


def inpaint(images: Tensor, masks: Tensor) -> Tensor:
    """Continue the surroundings into the region, smoothly.

    Known pixels are averaged into coarser and coarser grids until none is without any, and what
    is unknown takes the value of the finest grid that knows it (push-pull: Gortler et al.,
    "The Lumigraph", SIGGRAPH 1996); then the region is relaxed towards the membrane that its rim
    spans. It has no edge and no texture of its own that a network could read.
    """
    known = (~masks).to(images)
    levels = [(images * known, known)]
    while bool((levels[-1][1] == 0).any()) and min(levels[-1][0].shape[2:]) > 1:
        levels.append(tuple(F.avg_pool2d(part, 2, ceil_mode=True) for part in levels[-1]))  # type: ignore[arg-type]
    values, weight = levels.pop()
    filled = values / weight.clamp_min(1e-6)
    for values, weight in reversed(levels):
        coarse = F.interpolate(filled, size=values.shape[2:], mode="bilinear", align_corners=False)
        # Where some of a coarse pixel is known its mean counts by that share.
        filled = values + (1 - weight) * coarse
    return torch.stack([_relaxed(*one) for one in zip(filled, images, masks, strict=True)])


def _relaxed(filled: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Return (C, H, W) with each unknown pixel the mean of its neighbours, again and again."""
    rows, columns = mask[0].any(1).nonzero(), mask[0].any(0).nonzero()
    if not len(rows):
        return image
    # Nothing changes beyond a region, which is mostly small; the known pixels around it suffice.
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
    """Blur the region so far that nothing in it is sharp: by a twelfth of the shorter side."""
    return _softly(smooth(images, min(images.shape[2:]) / 12), images, masks)


def mean(images: Tensor, masks: Tensor) -> Tensor:
    """Paint the region in the image's mean colour."""
    return _softly(images.mean(dim=(2, 3), keepdim=True), images, masks)


def elsewhere(images: Tensor, masks: Tensor) -> Tensor:
    """Take the region from half a picture further down and right, so that it has a texture."""
    height, width = images.shape[2:]
    return _softly(images.roll((height // 2, width // 2), (2, 3)), images, masks)


def _softly(fill: Tensor, images: Tensor, masks: Tensor) -> Tensor:
    """Put a fill into the region with a soft rim around it: a sharp one would be an edge to see."""
    sigma = min(images.shape[2:]) / 112
    reach = max(1, round(2 * sigma))
    grown = widened(masks.to(images), reach)
    weight = torch.where(masks, torch.ones_like(grown), smooth(grown, sigma))
    return weight * fill + (1 - weight) * images


def widened(maps: Tensor, reach: int) -> Tensor:
    """Return maps (B, C, H, W) with the largest value of the square around each pixel."""
    rows = F.max_pool2d(maps, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return F.max_pool2d(rows, (2 * reach + 1, 1), stride=1, padding=(reach, 0))


def reference(other: Tensor) -> Fill:
    """Return the fill that takes the region from another image (1, C, H, W)."""
    return lambda images, masks: _softly(other.to(images), images, masks)


def smooth(maps: Tensor, sigma: float, *, density: bool = False) -> Tensor:
    """Return maps (B, C, H, W) under a Gaussian of `sigma` pixels.

    Beyond the edges a picture goes on as it ends; of a `density` there is nothing, lest what lies
    at an edge counts more than once.
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
"""Those under which claims are verified, by the name that reports call them."""
