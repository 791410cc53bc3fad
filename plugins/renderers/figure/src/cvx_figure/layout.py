"""Layout of a figure in whole device pixels, counted from the top left corner."""

from __future__ import annotations

from dataclasses import dataclass

from cvx_figure.captions import Caption
from cvx_figure.fonts import Fonts, Weight

STACKED = 2.5
"""Images with a larger aspect ratio are placed above their overlay, not beside it."""

# Inches.
_MARGIN = 0.22
_GAP = 0.12
_BAR_GAP = 0.14
_BAR = 0.15
_SCALE = 0.62  # numbers and unit beside the bar
_SHORTEST_BAR = 1.3
_NARROWEST = 4.5
_ROW_GAP = 0.3
_TALLEST = 0.56  # of the figure's width: the images of one explanation


@dataclass(frozen=True)
class Style:
    """Type style of a kind of text: sizes in points."""

    size: float
    weight: Weight
    leading: float
    lines: int
    color: str


TITLE = Style(11.0, "bold", 15.0, 3, "#1a1a1a")
PREDICTION = Style(9.0, "normal", 13.0, 3, "#1a1a1a")
CAPTION = Style(7.0, "normal", 10.0, 6, "#4d4d4d")
SCALE = Style(7.0, "normal", 10.0, 1, "#1a1a1a")


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels from the top left corner."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """First column to the right of it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """First row below it."""
        return self.top + self.height


@dataclass(frozen=True)
class Line:
    """A line of text and the pixel where its baseline starts."""

    text: str
    style: Style
    left: int
    baseline: int


@dataclass(frozen=True)
class Row:
    """Layout of one explanation; `photo` is None where only the overlay is drawn."""

    photo: Box | None
    overlay: Box
    bar: Box
    unit: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Layout:
    """The whole figure: (width, height) in pixels, and one row for each explanation."""

    size: tuple[int, int]
    rows: tuple[Row, ...]


def arrange(
    sizes: list[tuple[int, int]],
    texts: list[Caption],
    fonts: Fonts,
    width: float,
    dpi: int,
    original: bool = True,
) -> Layout:
    """Lay out one row for each explanation.

    Parameters
    ----------
    sizes
        (width, height) of the images.
    texts
        Captions of the explanations.
    fonts
        Measures the texts.
    width
        Maximum width of the figure in inches. Tall images need less.
    dpi
        Dots per inch.
    original
        Whether there is room for the image beside the overlay.
    """
    panels = [panel_size(size, width, dpi, original) for size in sizes]
    content = max(
        (original and _side_by_side(size)) * (panel[0] + _px(_GAP, dpi)) + panel[0]
        for size, panel in zip(sizes, panels, strict=True)
    )
    room = content + _px(_BAR_GAP + _BAR + _SCALE, dpi)
    room = min(max(room, _px(_NARROWEST, dpi)), _px(width - 2 * _MARGIN, dpi))
    rows = []
    top = _px(_MARGIN, dpi)
    for size, panel, text in zip(sizes, panels, texts, strict=True):
        beside = _side_by_side(size) if original else None
        row, bottom = _row(top, beside, panel, text, fonts, room, dpi)
        rows.append(row)
        top = bottom + _px(_ROW_GAP, dpi)
    height = top - _px(_ROW_GAP, dpi) + _px(_MARGIN, dpi)
    return Layout((room + 2 * _px(_MARGIN, dpi), height), tuple(rows))


def _px(inches: float, dpi: int) -> int:
    return round(inches * dpi)


def _side_by_side(size: tuple[int, int]) -> bool:
    return size[0] <= STACKED * size[1]


def panel_size(
    size: tuple[int, int], width: float, dpi: int, original: bool = True
) -> tuple[int, int]:
    """Return the (width, height) of an image in pixels of the figure."""
    across = width - 2 * _MARGIN - _BAR_GAP - _BAR - _SCALE
    down = _TALLEST * width
    if not original:
        pass
    elif _side_by_side(size):
        across = (across - _GAP) / 2
    else:
        down = (down - _GAP) / 2
    scale = min(across / size[0], down / size[1])
    return max(1, int(size[0] * scale * dpi)), max(1, int(size[1] * scale * dpi))


def _row(
    top: int,
    beside: bool | None,
    panel: tuple[int, int],
    text: Caption,
    fonts: Fonts,
    room: int,
    dpi: int,
) -> tuple[Row, int]:
    left, gap = _px(_MARGIN, dpi), _px(_GAP, dpi)
    lines, top = _set(text.title, TITLE, left, top, fonts, room, dpi)
    more, top = _set(text.prediction, PREDICTION, left, top, fonts, room, dpi)
    lines += more
    top += _px(0.08, dpi)
    photo = None if beside is None else Box(left, top, *panel)
    if photo is None:
        overlay = Box(left, top, *panel)
    elif beside:
        overlay = Box(photo.right + gap, top, *panel)
    else:
        overlay = Box(left, photo.bottom + gap, *panel)
    bar = Box(
        overlay.right + _px(_BAR_GAP, dpi),
        top,
        _px(_BAR, dpi),
        max(overlay.bottom - top, _px(_SHORTEST_BAR, dpi)),
    )
    unit = fonts.elide(text.unit, bar.height * 72 / dpi, SCALE.size)
    more, bottom = _set(text.caption, CAPTION, left, bar.bottom + _px(0.08, dpi), fonts, room, dpi)
    return Row(photo, overlay, bar, unit, tuple(lines + more)), bottom


def _set(
    text: str, style: Style, left: int, top: int, fonts: Fonts, room: int, dpi: int
) -> tuple[list[Line], int]:
    """Return the lines of a text below `top`, and their lower edge."""
    if not text:
        return [], top
    broken = fonts.wrap(text, room * 72 / dpi, style.size, style.weight, style.lines)
    leading = style.leading * dpi / 72
    lines = [
        Line(line, style, left, round(top + leading * (number + 0.78)))
        for number, line in enumerate(broken)
    ]
    return lines, round(top + leading * len(broken))
