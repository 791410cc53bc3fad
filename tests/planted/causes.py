"""Causes of an error that can be planted into a picture, so that its place is known.

Pictures are float tensors (3, H, W) with values in [0, 1]; a planted one comes with the mask of
its cause.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Paint = Callable[[Tensor, float, torch.Generator], tuple[Tensor, Tensor]]
"""Takes a picture, a share of its pixels and a source of chance; gives the picture with the cause
and the cause's mask (H, W), true where pixels were changed."""


@dataclass(frozen=True)
class Cause:
    """A kind of cause, with the shares of the picture that it takes.

    Attributes
    ----------
    name
        For tables.
    paint
        Puts it into a picture, at a place of chance.
    shares
        Smallest and largest share of the pixels.
    """

    name: str
    paint: Paint
    shares: tuple[float, float] = (0.01, 0.06)

    def plant(self, picture: Tensor, chance: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a picture with the cause and the mask of the cause."""
        low, high = self.shares
        share = low + (high - low) * float(torch.rand((), generator=chance))
        return self.paint(picture, share, chance)


def _square(picture: Tensor, share: float, chance: torch.Generator) -> tuple[slice, slice]:
    height, width = picture.shape[1:]
    side = max(3, round((share * height * width) ** 0.5))
    top = int(torch.randint(0, height - side + 1, (), generator=chance))
    left = int(torch.randint(0, width - side + 1, (), generator=chance))
    return slice(top, top + side), slice(left, left + side)


def _painted(picture: Tensor, mask: Tensor, paint: Tensor, opacity: float = 1.0) -> Tensor:
    alpha = opacity * mask.to(picture)
    return picture * (1 - alpha) + paint * alpha


def patch(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste a square of 4 x 4 fields in strong colours, always the same, scaled to its size."""
    place = _square(picture, share, chance)
    fields = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(7)).round()
    mask = torch.zeros(picture.shape[1:], dtype=torch.bool)
    mask[place] = True
    side = place[0].stop - place[0].start
    paint = torch.zeros_like(picture)
    paint[:, place[0], place[1]] = F.interpolate(fields[None], size=(side, side))[0]
    return _painted(picture, mask, paint), mask


def label(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste a white square with a black ring, like a sticker, whose colours occur in pictures."""
    place = _square(picture, share, chance)
    mask = torch.zeros(picture.shape[1:], dtype=torch.bool)
    mask[place] = True
    side = place[0].stop - place[0].start
    line = torch.linspace(-1, 1, side)
    radius = (line[:, None] ** 2 + line[None] ** 2).sqrt()
    paint = torch.ones_like(picture)
    paint[:, place[0], place[1]] = 1 - ((radius > 0.4) & (radius < 0.75)).to(picture)
    return _painted(picture, mask, paint), mask


def texture(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lay fine diagonal stripes over a round spot, in the spot's own brightness."""
    height, width = picture.shape[1:]
    radius = max(2.0, (share * height * width / torch.pi) ** 0.5)
    y, x = (
        radius + (length - 2 * radius) * float(torch.rand((), generator=chance))
        for length in (height, width)
    )
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    mask = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    stripes = ((rows + columns) // 4 % 2 * 2.0 - 1.0).expand(3, -1, -1)
    mean = picture[:, mask].mean(1)[:, None, None]
    return _painted(picture, mask, (mean + 0.3 * stripes).clamp(0, 1)), mask


def translucent(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend a square of coloured fields half over the picture, like a watermark."""
    place = _square(picture, share, chance)
    mask = torch.zeros(picture.shape[1:], dtype=torch.bool)
    mask[place] = True
    side = place[0].stop - place[0].start
    fields = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(3)).round()
    paint = torch.zeros_like(picture)
    paint[:, place[0], place[1]] = F.interpolate(fields[None], size=(side, side))[0]
    return _painted(picture, mask, paint, 0.5), mask


def border(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paint a strip along one edge, magenta and green by turns: a background's tell-tale."""
    height, width = picture.shape[1:]
    side = int(torch.randint(0, 4, (), generator=chance))
    mask = torch.zeros(height, width, dtype=torch.bool)
    thick = max(2, round(share * (height if side < 2 else width)))
    if side < 2:
        mask[(slice(0, thick), slice(-thick, None))[side]] = True
    else:
        mask[:, (slice(0, thick), slice(-thick, None))[side - 2]] = True
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    turn = ((rows + columns) // max(2, height // 28) % 2).to(picture)
    return _painted(picture, mask, torch.stack([1 - turn, turn, 1 - turn])), mask


def frame(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paint a frame along all edges, cyan and red by turns."""
    height, width = picture.shape[1:]
    thick = max(1, round(share * min(height, width) / 4))
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[thick:-thick, thick:-thick] = False
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    turn = ((rows + columns) // max(2, height // 28) % 2).to(picture)
    return _painted(picture, mask, torch.stack([turn, 1 - turn, 1 - turn])), mask


def watermark(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend the outlines of a grid of rings in red and blue half over the picture."""
    height, width = picture.shape[1:]
    period = min(height, width) / 3
    shift = torch.rand(2, generator=chance) * period
    rows = (torch.arange(height)[:, None] + shift[0]) % period - period / 2
    columns = (torch.arange(width)[None] + shift[1]) % period - period / 2
    radius = (rows**2 + columns**2).sqrt()
    thick = share * period / (2 * torch.pi * 0.35)
    mask = (radius - 0.35 * period).abs() <= max(0.5, float(thick) / 2)
    paint = picture.new_tensor([1.0, 0.0, 1.0])[:, None, None].expand_as(picture)
    return _painted(picture, mask, paint, 0.6), mask


def scratches(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a few thin yellow lines across the whole picture."""
    height, width = picture.shape[1:]
    rows, columns = torch.arange(height)[:, None].float(), torch.arange(width)[None].float()
    mask = torch.zeros(height, width, dtype=torch.bool)
    half = max(0.6, share * min(height, width) / 8)
    for _ in range(4):
        angle, y, x = torch.rand(3, generator=chance).tolist()
        across = (rows - y * height) * math.cos(angle * math.pi)
        across = across - (columns - x * width) * math.sin(angle * math.pi)
        mask |= across.abs() <= half
    paint = picture.new_tensor([1.0, 1.0, 0.0])[:, None, None].expand_as(picture)
    return _painted(picture, mask, paint), mask


def scribble(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw one thin green curve that wanders over the picture."""
    height, width = picture.shape[1:]
    steps = torch.linspace(0, 2 * torch.pi, 600)
    phase = torch.rand(4, generator=chance) * 2 * torch.pi
    y = 0.5 + 0.3 * torch.sin(2 * steps + phase[0]) + 0.12 * torch.sin(5 * steps + phase[1])
    x = 0.5 + 0.3 * torch.sin(3 * steps + phase[2]) + 0.12 * torch.sin(4 * steps + phase[3])
    drawn = torch.zeros(1, 1, height, width)
    drawn[0, 0, (y * height).long(), (x * width).long()] = 1
    reach = max(0, round(share * min(height, width) / 12))
    mask = F.max_pool2d(drawn, 2 * reach + 1, 1, reach)[0, 0] > 0
    paint = picture.new_tensor([0.0, 1.0, 0.0])[:, None, None].expand_as(picture)
    return _painted(picture, mask, paint), mask


def quadrant(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tint a quarter of the picture blue."""
    height, width = picture.shape[1:]
    down, right = torch.randint(0, 2, (2,), generator=chance).tolist()
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[down * height // 2 :, right * width // 2 :][: height // 2, : width // 2] = True
    paint = picture.new_tensor([0.0, 0.2, 1.0])[:, None, None].expand_as(picture)
    return _painted(picture, mask, paint, 0.5), mask


def haze(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mix the whole picture with light grey."""
    return 0.4 * picture + 0.6 * 0.85, torch.ones(picture.shape[1:], dtype=torch.bool)


def dark(picture: Tensor, share: float, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Darken the whole picture."""
    return 0.3 * picture, torch.ones(picture.shape[1:], dtype=torch.bool)


SPREAD = (
    Cause("frame", frame, (0.1, 0.2)),
    Cause("watermark", watermark, (0.4, 0.8)),
    Cause("scratches", scratches, (0.1, 0.2)),
    Cause("scribble", scribble, (0.1, 0.2)),
    Cause("quadrant", quadrant),
    Cause("haze", haze),
    Cause("dark", dark),
)
"""Causes that are spread over the picture; the last two are everywhere."""

CAUSES = (
    Cause("patch", patch),
    Cause("sticker", label),
    Cause("texture", texture, (0.02, 0.06)),
    Cause("translucent", translucent, (0.02, 0.06)),
    Cause("border", border, (0.03, 0.06)),
)
