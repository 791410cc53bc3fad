"""Figure renderer: explanations as one png, svg or pdf file."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from threading import Lock
from typing import Any, Literal, get_args

import matplotlib
import matplotlib.figure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cvx_core import Artifact, Explanation, OptionError, Renderer, UsageError
from cvx_core.explanations import BACKGROUNDS, OPACITY, color_table, show
from cvx_core.plugins import check_choice
from cvx_figure.captions import make_caption
from cvx_figure.fonts import Fonts
from cvx_figure.layout import arrange, panel_size
from cvx_figure.palette import is_uneven
from cvx_figure.sheet import Sheet

Format = Literal["png", "svg", "pdf"]

MAX_PIXELS = 200_000_000

_MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}

# Dates and versions would change the bytes from run to run and from release to release.
_UNDATED: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

# Two figures drawn at once would put back each other's settings.
_settings = Lock()


@dataclass(frozen=True)
class Figure(Renderer):
    """The image beside its overlay, with color bar, prediction and evidence.

    Several explanations become the rows of one figure. The bytes are the same for the same
    explanations, parameters, fonts and version of matplotlib.

    Parameters
    ----------
    format
        ``"png"``, ``"svg"`` (text stays text) or ``"pdf"``.
    colormap
        Any color map of matplotlib or cmcrameri; None for inferno, or vik for signed maps.
    width
        Maximum width of the figure in inches, 4 to 40.
    dpi
        Dots per inch, 30 to 1200; in svg and pdf, of the embedded images.
    opacity
        Opacity of the strongest value, in (0, 1].
    smooth
        Standard deviation of the smoothing in pixels of the image; None smooths only maps
        of single pixels. The caption names the smoothing.
    title
        Whether target and prediction stand above the images.
    caption
        Whether model, layer, evidence and display settings stand below.
    original
        Whether the image without the map is drawn too.
    background
        The image under the map in ``"grey"``, where the map has all the color, or in ``"color"``.

    Raises
    ------
    OptionError
        If a parameter is out of its range.

    Examples
    --------
    >>> from cvx_core.testing.samples import sample_explanation
    >>> Figure(format="svg").render(sample_explanation()).media_type
    'image/svg+xml'
    """

    format: Format = "png"
    colormap: str | None = None
    width: float = 8.0
    dpi: int = 150
    opacity: float = OPACITY
    smooth: float | None = None
    title: bool = True
    caption: bool = True
    original: bool = True
    background: str = "grey"

    def __post_init__(self) -> None:
        check_choice("format", self.format, get_args(Format))
        _in_range("width", self.width, 4, 40)
        _in_range("dpi", self.dpi, 30, 1200)
        _in_range("opacity", self.opacity, 0.01, 1)
        if not isinstance(self.dpi, int):
            raise OptionError(f"dpi must be an integer, got {self.dpi!r}.")
        if self.smooth is not None:
            _in_range("smooth", self.smooth, 0, 1000)
        for name in ("title", "caption", "original"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} must be true or false, got {getattr(self, name)!r}.")
        check_choice("background", self.background, BACKGROUNDS)
        if self.colormap is not None:
            color_table(str(self.colormap))

    @classmethod
    def suffixes(cls) -> tuple[str, ...]:
        """Return those of all formats."""
        return tuple(f".{one}" for one in get_args(Format))

    @classmethod
    def for_suffix(cls, suffix: str) -> Figure | None:
        """Return the renderer of the format with a suffix."""
        return cls(format=suffix[1:]) if suffix in cls.suffixes() else None  # type: ignore[arg-type]

    @property
    def suffix(self) -> str:
        """``".png"``, ``".svg"`` or ``".pdf"``."""
        return f".{self.format}"

    @property
    def media_type(self) -> str:
        """The media type of the format."""
        return _MEDIA_TYPES[self.format]

    def draw(self, explanations: Sequence[Explanation]) -> Artifact:
        """Return the figure.

        Raises
        ------
        UsageError
            If its images would hold more than 200 million pixels.
        """
        with _settings, matplotlib.rc_context(_defaults()):
            return Artifact(self.suffix, self.media_type, self._bytes(explanations))

    def _bytes(self, explanations: Sequence[Explanation]) -> bytes:
        sizes = [(e.image.shape[1], e.image.shape[0]) for e in explanations]
        panels = [panel_size(size, self.width, self.dpi, self.original) for size in sizes]
        pixels = (1 + self.original) * sum(wide * high for wide, high in panels)
        if pixels > MAX_PIXELS:
            raise UsageError(
                f"The figure of {len(explanations)} explanations would have {pixels:,} pixels; "
                f"the limit is {MAX_PIXELS:,}.",
                "Render fewer explanations at once, or lower dpi.",
            )
        maps = [
            show(e, panel, smooth=self.smooth, colormap=self.colormap)
            for e, panel in zip(explanations, panels, strict=True)
        ]
        note = _color_note(self.colormap)
        texts = [make_caption(e, shown, note) for e, shown in zip(explanations, maps, strict=True)]
        name = texts[0].title
        if not self.title:
            texts = [replace(one, title="", prediction="") for one in texts]
        if not self.caption:
            texts = [replace(one, caption="") for one in texts]
        fonts = Fonts([text for several in texts for text in astuple(several)])
        layout = arrange(sizes, texts, fonts, self.width, self.dpi, self.original)
        sheet = Sheet(layout, fonts, self.dpi)
        table = None if self.colormap is None else color_table(self.colormap)
        for row, explanation, shown in zip(layout.rows, explanations, maps, strict=True):
            sheet.draw(row, explanation, shown, self.opacity, table, self.background)
        buffer = io.BytesIO()
        if self.format == "png":
            _write_png(buffer, sheet.figure, self.dpi, name)
        else:
            sheet.figure.savefig(
                buffer,
                format=self.format,
                dpi=self.dpi,
                metadata={"Title": name, **_UNDATED[self.format]},
            )
        return buffer.getvalue()


def _write_png(buffer: io.BytesIO, figure: matplotlib.figure.Figure, dpi: int, name: str) -> None:
    """Write a figure without transparency, in a third of the time that matplotlib takes."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    text = PngInfo()
    text.add_text("Title", name)
    # Of zlib's levels 1 to 9: a tenth larger than the default of 6, in a third of the time.
    Image.fromarray(pixels).save(buffer, "png", dpi=(dpi, dpi), pnginfo=text, compress_level=2)


def _color_note(colormap: str | None) -> str:
    if colormap is None:
        return ""
    if is_uneven(colormap):
        return f"{colormap} is not perceptually uniform and shows edges that are not in the map"
    return f"color map: {colormap}"


def _in_range(name: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise OptionError(f"{name} must be a number from {low} to {high}, got {value!r}.")


def _defaults() -> Any:
    """Return settings that do not depend on the user's matplotlibrc or on chance."""
    return {
        **{k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")},
        # Hinting widens lines by an amount that depends on the size; unhinted, a line is as wide
        # as it was measured, in every format.
        "text.hinting": "no_hinting",
        # In svg and pdf, images that lie side by side stay apart.
        "image.composite_image": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "cvx",
        "pdf.fonttype": 42,
    }
