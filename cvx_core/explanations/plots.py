"""Overlays in axes of matplotlib, alone or side by side on one scale."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvx_core._util.environment import optional_module
from cvx_core._util.files import write_atomic
from cvx_core._util.text import shortened
from cvx_core.errors import OptionError, OutputError, UsageError, install_command
from cvx_core.explanations.colormaps import color_table
from cvx_core.explanations.heatmap import (
    OPACITY,
    Limits,
    Shown,
    blend,
    draw,
    shared_limits,
    show,
)
from cvx_core.explanations.notebook import Described

_PANEL = 3.6
"""Width of an image of a comparison, in inches."""

_DPI = 150


def plot(
    explanation: Described,
    ax: Any = None,
    *,
    colormap: str | None = None,
    alpha: float = OPACITY,
    caption: bool = False,
    title: bool | str = True,
    original: bool = False,
    colorbar: bool = True,
    limits: Limits | None = None,
    background: str = "grey",
) -> Any:
    """Draw an overlay into axes; see `Explanation.plot`.

    Parameters
    ----------
    limits
        Ends of the color scale; None takes the map's own.
    """
    _matplotlib()
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots()[1]
    height, width = explanation.image.shape[:2]
    pixels: Any = explanation.image
    if not original:
        shown = show(explanation, colormap=colormap, limits=limits)
        pixels = np.asarray(draw(explanation, shown, colormap, alpha, background))
    ax.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)
    if title:
        ax.set_title(_literal(explanation.title if title is True else title), fontsize="medium")
    if caption:
        ax.set_xlabel(_literal(_caption(explanation)), fontsize="small")
    if colorbar and not original:
        box = ax.inset_axes((1.03, 0.0, 0.04, 1.0))
        draw_bar(box, shown, explanation.signed, explanation.unit, colormap, alpha)
    return ax


def draw_bar(
    ax: Any, shown: Shown, signed: bool, unit: str, colormap: str | None, alpha: float
) -> None:
    """Draw the scale of a map into axes: it fades with the magnitude as the overlay does."""
    low, high = shown.ends
    values = np.linspace(high, low, 256, dtype=np.float32)[:, None]
    table = None if colormap is None else color_table(colormap)
    white = np.full((256, 1, 3), 255, np.uint8)
    bar = blend(white, Shown(values, shown.limits, 0.0), signed, alpha, table)
    ax.imshow(bar, extent=(0, 1, low, high), aspect="auto")
    ax.set_xticks([])
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    ax.set_ylabel(_literal(unit), fontsize="small")
    ax.tick_params(labelsize="small")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Explanations side by side on one scale; a notebook shows them.

    Attributes
    ----------
    figure
        A `matplotlib.figure.Figure`.
    explanations
        What it shows, from left to right.
    """

    figure: Any
    explanations: tuple[Described, ...]

    def __repr__(self) -> str:
        return f"<Comparison of {len(self.explanations)} explanations>"

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the figure to a file, atomically, in the format of the suffix (``.png``, ``.pdf``).

        Raises
        ------
        OutputError
            If matplotlib doesn't write such files, the file exists and `overwrite` is false, or it
            can't be written.
        """
        path = Path(path)
        known = self.figure.canvas.get_supported_filetypes()
        if path.suffix[1:].lower() not in known:
            raise OutputError(
                f"A comparison can't be written as {path.suffix or 'a file without suffix'}.",
                "Suffixes: " + ", ".join(f".{one}" for one in sorted(known)) + ".",
            )
        return write_atomic(path, self._bytes(path.suffix[1:].lower()), overwrite=overwrite)

    def _bytes(self, form: str) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format=form, dpi=_DPI, bbox_inches="tight")
        return buffer.getvalue()

    def png(self) -> bytes:
        """Return the figure as PNG."""
        return self._bytes("png")

    def _repr_png_(self) -> bytes:
        return self.png()


def compare(
    *explanations: Described | Sequence[Described],
    colormap: str | None = None,
    alpha: float = OPACITY,
    titles: Sequence[str] | None = None,
    original: bool = True,
) -> Comparison:
    """Draw explanations side by side, on one color scale.

    For two models, two checkpoints, two methods or two targets: the same color means the same
    value. A value belongs to one position of a map, so only maps with the same unit and the same
    number of positions share a scale; others have a scale of their own beside them.

    Parameters
    ----------
    explanations
        Two or more, or lists of them as `explain` returns.
    colormap, alpha
        See `Explanation.overlay`.
    titles
        One for each; None names what they differ in: image, model, weights, method, target.
    original
        Whether the image stands before them, where it is the same for all.

    Returns
    -------
    Comparison

    Raises
    ------
    UsageError
        If there are fewer than two, something else is given, or another number of titles.
    OptionError
        If matplotlib is not installed, or the color map is unknown.

    Examples
    --------
    >>> from cvx_core.testing.samples import sample_explanation
    >>> one = sample_explanation()
    >>> compare(one, one.replace(values=one.values * 2))
    <Comparison of 2 explanations>
    """
    lists = [one if isinstance(one, Iterable) else [one] for one in explanations]
    several: list[Any] = [one for listed in lists for one in listed]
    wrong = next((one for one in several if not hasattr(one, "provenance")), None)
    if wrong is not None:
        raise UsageError(
            f"compare takes explanations, got {type(wrong).__name__}.",
            "Write compare(explain(model, image, [METHOD, OTHER])) or compare(one, other).",
        )
    if len(several) < 2:
        raise UsageError(
            f"compare needs two or more explanations, got {len(several)}.",
            "Pass compare(one, other).",
        )
    if titles is not None and len(titles) != len(several):
        raise UsageError(
            f"There are {len(several)} explanations and {len(titles)} titles.", "Give one for each."
        )
    _matplotlib()
    from matplotlib.figure import Figure

    maps = [show(one, colormap=colormap) for one in several]
    # Maps with a sign have other colors, unless a color map is given.
    signs = [one.signed and colormap is None for one in several]
    scales = [(one.unit, one.values.shape, sign) for one, sign in zip(several, signs, strict=True)]
    limits = {
        scale: shared_limits([m for k, m in enumerate(maps) if scales[k] == scale])
        for scale in scales
    }
    same = all(np.array_equal(one.image, several[0].image) for one in several)
    first = original and same
    count, ratio = len(several) + first, several[0].image.shape[0] / several[0].image.shape[1]
    figure = Figure(figsize=(count * _PANEL, _PANEL * min(ratio, 1.6) + 0.7), layout="compressed")
    axes = figure.subplots(1, count, squeeze=False)[0]
    if first:
        plot(several[0], axes[0], title=_image_title(several[0]), original=True)
    names = list(titles) if titles is not None else differences(several)
    for k, one in enumerate(several):
        # The bar stands beside the last of those that share it.
        last = scales[k] not in scales[k + 1 :]
        plot(
            one,
            axes[k + first],
            colormap=colormap,
            alpha=alpha,
            title=names[k] or False,
            colorbar=last,
            caption=True,
            limits=limits[scales[k]],
        )
    return Comparison(figure, tuple(several))


_LINES = ("image", "model", "method", "target")


def differences(explanations: Sequence[Described]) -> list[str]:
    """Return what tells each explanation from the others: image, model, weights, method, target."""
    rows = [_facts(one) for one in explanations]
    differing = [key for key in rows[0] if len({row[key] for row in rows}) > 1]
    # Other models have other weights, and other methods other parameters.
    implied = {"weights"} if "model" in differing else set()
    implied |= {"parameters"} if "method" in differing else set()
    texts = []
    for row in rows:
        lines = [row[key] for key in differing if key not in implied and key in _LINES]
        if "weights" in differing and "weights" not in implied:
            named = len({other["weights"][0] for other in rows}) == len(rows)
            lines.append(row["weights"][0 if named else 1])
        if "parameters" in differing and "parameters" not in implied:
            given = [dict(other["parameters"]) for other in rows]
            own = dict(row["parameters"])
            lines.append(
                ", ".join(
                    f"{key}={own[key]}" for key in own if any(o.get(key) != own[key] for o in given)
                )
            )
        texts.append("\n".join(shortened(line, 44) for line in lines if line))
    return texts


def _facts(one: Any) -> dict[str, Any]:
    given = one.provenance
    details = given.get("model_details") or {}
    digest = f"weights {str(given.get('weights_sha256') or '')[:8]}"
    parameters = given.get("parameters") or {}
    return {
        "image": str(one.name),
        "model": str(given.get("model") or ""),
        "weights": (str(details.get("weights") or ""), digest),
        "method": str(one.method),
        "parameters": tuple((key, str(parameters[key])) for key in parameters),
        "target": str(one.target.text),
    }


def _image_title(one: Any) -> str:
    return shortened(str(one.name) or "image", 44)


def _caption(one: Described) -> str:
    target = one.target
    parts = [f"prediction: {target.predicted.text}"]
    if target.label is not None:
        parts.append(f"label: {target.label.text}")
    parts += one.cautions
    return "\n".join(parts)


def _literal(text: str) -> str:
    # A pair of dollar signs in a class or file name is no formula.
    return text.replace("$", r"\$")


def _matplotlib() -> None:
    if optional_module("matplotlib") is None:
        raise OptionError(
            "Plots need matplotlib.",
            f"Install it: {install_command('matplotlib')}\noverlay() works without.",
        )
