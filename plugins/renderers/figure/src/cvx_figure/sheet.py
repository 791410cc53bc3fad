"""A matplotlib figure with the images, the color bar and the texts of a layout."""

from __future__ import annotations

import math

import matplotlib.figure
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
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
            axes = self._image(box, pixels, explanation.image.shape)
            if framed(explanation):
                _outline(axes, explanation, explanation.extent, "#ffffff")
            if box is row.photo:
                for one in explanation.target.reported or ():
                    _outline(axes, explanation, one.box, "#ffffff", 0.6)
            if explanation.target.box is not None:
                _outline(axes, explanation, explanation.target.box, "#ffd400", 1.2)
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

    def _axes(self, box: Box) -> Axes:
        return self.figure.add_axes(
            (
                box.left / self._width,
                1 - box.bottom / self._height,
                box.width / self._width,
                box.height / self._height,
            )
        )

    def _image(self, box: Box, pixels: Pixels, shape: tuple[int, ...]) -> Axes:
        """Show pixels in a box whose coordinates are the pixels of an image of `shape`."""
        axes = self._axes(box)
        axes.set_axis_off()
        axes.imshow(
            pixels, extent=(0, shape[1], shape[0], 0), aspect="auto", interpolation="nearest"
        )
        axes.set_autoscale_on(False)
        return axes

    def _bar(
        self, row: Row, shown: Shown, signed: bool, strongest: float, table: Pixels | None
    ) -> None:
        low, high = shown.ends
        axes = self._axes(row.bar)
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


def _outline(
    axes: Axes,
    explanation: Explanation,
    sides: tuple[float, float, float, float],
    color: str,
    thickness: float = 1.0,
) -> None:
    """Draw the part of a rectangle inside the image, on a dark edge visible on any image."""
    height, width = explanation.image.shape[:2]
    left, top, right, bottom = sides
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    for edge, wide in (("#000000", thickness + 1.2), (color, thickness)):
        axes.add_patch(
            Rectangle(
                (left, top),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=edge,
                linewidth=wide,
                joinstyle="miter",
                # Snapped to pixels one by one, the two outlines would part.
                snap=False,
            )
        )


def _exponent(largest: float) -> int:
    """Return the power of ten to factor out of a scale's numbers, 0 for readable numbers."""
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    return 0 if -3 <= power < 4 else power
