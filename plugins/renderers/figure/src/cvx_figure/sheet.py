"""A matplotlib figure with the images, the color bar and the texts of a layout."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.figure
import numpy as np
import numpy.typing as npt
from matplotlib.image import FigureImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D, Bbox, TransformedBbox
from PIL import Image

from cvx_core.explanations import Explanation, Shown, blend, under
from cvx_figure.captions import framed, number
from cvx_figure.fonts import Fonts
from cvx_figure.layout import SCALE, Box, Layout, Row

Pixels = npt.NDArray[np.uint8]

_BLOCKY = 6
"""Images that are enlarged more than this are resampled to the nearest pixel: interpolated, an icon
of 8 x 8 pixels would look out of focus."""

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class _Picture(FigureImage):
    """Pixels drawn as they are; matplotlib would resample them to the same pixels."""

    zorder = -1  # below the axes

    def __init__(
        self, figure: matplotlib.figure.Figure, pixels: Pixels, left: int, bottom: int
    ) -> None:
        super().__init__(figure, offsetx=left, offsety=bottom)
        self.set_data(pixels)
        self._sheet, self._pixels, self._dpi = figure, pixels, figure.dpi

    def make_image(
        self,
        renderer: Any,  # noqa: ARG002
        magnification: float = 1.0,  # noqa: ARG002
        unsampled: bool = False,  # noqa: ARG002
    ) -> tuple[Pixels, float, float, Affine2D]:
        """Return the pixels from the bottom up, opaque, and where they begin."""
        pixels = self._pixels[::-1]
        opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
        # In svg and pdf a figure has 72 dots per inch while it is drawn.
        scale = self._sheet.dpi / self._dpi
        return (
            np.concatenate([pixels, opaque], axis=2),
            self.ox * scale,
            self.oy * scale,
            Affine2D(),
        )


class Sheet:
    """A matplotlib figure addressed in pixels from the top left corner.

    Parameters
    ----------
    layout
        Size of the figure and positions of its parts.
    fonts
        Fonts of all texts.
    dpi
        Dots per inch.
    """

    def __init__(self, layout: Layout, fonts: Fonts, dpi: int) -> None:
        self._width, self._height = layout.size
        self._fonts = fonts
        self.figure = matplotlib.figure.Figure(
            figsize=(self._width / dpi, self._height / dpi), dpi=dpi, facecolor="white"
        )

    def draw(
        self,
        row: Row,
        explanation: Explanation,
        shown: Shown,
        strongest: float,
        table: Pixels | None,
        background: str,
    ) -> None:
        """Draw one explanation in its row.

        Parameters
        ----------
        row
            Its layout.
        explanation, shown
            The explanation, and its map at the size of ``row.overlay``.
        strongest
            Opacity of the strongest value, in (0, 1].
        table
            Color table, uint8 (256, 3); None for the default.
        background
            ``"grey"`` or ``"color"``: the image under the map.
        """
        photo = resize(explanation.image, (row.overlay.width, row.overlay.height))
        over = blend(under(photo, background), shown, explanation.signed, strongest, table)
        for box, pixels in ((row.photo, photo), (row.overlay, over)):
            if box is None:
                continue
            self.figure.images.append(
                _Picture(self.figure, pixels, box.left, self._height - box.bottom)
            )
            if framed(explanation):
                self._outline(box, explanation, explanation.extent, "#ffffff")
            if box is row.photo:
                for one in explanation.target.reported or ():
                    self._outline(box, explanation, one.box, "#ffffff", 0.6)
            if explanation.target.box is not None:
                self._outline(box, explanation, explanation.target.box, "#ffd400", 1.2)
        self._bar(row, shown, explanation.signed, strongest, table)
        for line in row.lines:
            self.figure.text(
                line.left / self._width,
                1 - line.baseline / self._height,
                line.text,
                ha="left",
                va="baseline",
                parse_math=False,
                fontproperties=self._fonts.font(line.style.size, line.style.weight),
                color=line.style.color,
            )

    def _place(self, box: Box) -> tuple[float, float, float, float]:
        """Return left, bottom, width and height of a box as fractions of the figure."""
        return (
            box.left / self._width,
            1 - box.bottom / self._height,
            box.width / self._width,
            box.height / self._height,
        )

    def _outline(
        self,
        box: Box,
        explanation: Explanation,
        sides: tuple[float, float, float, float],
        color: str,
        thickness: float = 1.0,
    ) -> None:
        """Draw the part of a rectangle inside the image, on a dark edge visible on any image."""
        height, width = explanation.image.shape[:2]
        left, top, right, bottom = sides
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        # In the box, by coordinates that are the pixels of the image.
        x, y, wide, high = self._place(box)
        place = Bbox.from_bounds(x, y, wide, high)
        pixels = Affine2D().scale(wide / width, -high / height).translate(x, y + high)
        for edge, line in (("#000000", thickness + 1.2), (color, thickness)):
            patch = Rectangle(
                (left, top),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=edge,
                linewidth=line,
                joinstyle="miter",
                # Snapped to pixels one by one, the two outlines would part.
                snap=False,
                transform=pixels + self.figure.transFigure,
            )
            patch.set_clip_box(TransformedBbox(place, self.figure.transFigure))
            self.figure.add_artist(patch)

    def _bar(
        self, row: Row, shown: Shown, signed: bool, strongest: float, table: Pixels | None
    ) -> None:
        low, high = shown.ends
        axes = self.figure.add_axes(self._place(row.bar))
        height, width = row.bar.height, row.bar.width
        steps = np.linspace(high, low, height, dtype=np.float32)
        column = Shown(np.repeat(steps[:, None], width, axis=1), shown.limits, 0.0)
        board = checkerboard(width, height)
        axes.imshow(
            blend(board, column, signed, strongest, table),
            extent=(0, 1, low, high),
            aspect="auto",
            interpolation="nearest",
        )
        axes.set_xticks([])
        exponent = _exponent(max(abs(low), abs(high)))
        scale = 10.0**exponent
        ticks = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(
            low / scale, high / scale
        )
        inside = [float(t) for t in ticks if low <= t * scale <= high]
        axes.yaxis.tick_right()
        labels = [number(tick) for tick in inside]
        axes.set_yticks(
            [tick * scale for tick in inside],
            labels,
            fontproperties=self._fonts.font(SCALE.size),
            color=SCALE.color,
        )
        axes.tick_params(length=2.5, width=0.6, pad=2)
        for spine in axes.spines.values():
            spine.set_linewidth(0.6)
        times = (
            f"\N{MULTIPLICATION SIGN} 10{str(exponent).translate(_SUPERSCRIPT)} "
            if exponent
            else ""
        )
        beside = 12 + max(self._fonts.width(label, SCALE.size) for label in labels)
        self.figure.text(
            (row.bar.right + beside * self.figure.dpi / 72) / self._width,
            1 - (row.bar.top + height / 2) / self._height,
            (times + row.unit).strip(),
            rotation=90,
            ha="center",
            va="center",
            parse_math=False,
            fontproperties=self._fonts.font(SCALE.size),
            color=SCALE.color,
        )


def resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Return an image at `size` (width, height), as uint8 (height, width, 3)."""
    enlarged = size[0] / image.shape[1]
    how = Image.Resampling.NEAREST if enlarged > _BLOCKY else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize(size, how))


def checkerboard(width: int, height: int) -> Pixels:
    """Return a checkerboard of two light greys as a background; uint8 (height, width, 3)."""
    side = max(1, round(width / 4))
    odd = (np.arange(height)[:, None] // side + np.arange(width)[None, :] // side) % 2
    grey = np.where(odd, 205, 245).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _exponent(largest: float) -> int:
    """Return the power of ten to factor out of a scale's numbers, 0 for readable numbers."""
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    return 0 if -3 <= power < 4 else power
