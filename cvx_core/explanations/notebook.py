"""Notebook output of explanations and artifacts."""

from __future__ import annotations

import base64
import html
import io
from typing import Any, Protocol

import numpy as np

from cvx_core.explanations.heatmap import ImageMap, overlay
from cvx_core.explanations.metadata import Metadata
from cvx_core.tasks.classes import TargetRecord

SIDE = 480
"""Longest side of the overlay in a notebook, in pixels."""

_PAGE_HEIGHT = 720


class Described(ImageMap, Protocol):
    """A map with its target, such as an `Explanation`."""

    @property
    def target(self) -> TargetRecord: ...  # noqa: D102
    @property
    def provenance(self) -> Metadata: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def additive(self) -> bool: ...  # noqa: D102
    @property
    def cautions(self) -> list[str]: ...  # noqa: D102


def overlay_png(explanation: Described, side: int = SIDE) -> bytes:
    """Return the overlay as PNG, at most `side` pixels wide and high."""
    height, width = explanation.image.shape[:2]
    scale = min(1.0, side / max(width, height))
    buffer = io.BytesIO()
    size = max(1, round(width * scale)), max(1, round(height * scale))
    overlay(explanation, size).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def explanation_html(explanation: Described, side: int = SIDE) -> str:
    """Return the overlay with target, prediction and label, as HTML."""
    picture = base64.b64encode(overlay_png(explanation, side)).decode()
    target = explanation.target
    total = explanation.values.sum(dtype=np.float64)
    rows = [
        ("image", explanation.name),
        ("target", target.text),
        ("prediction", target.predicted.text),
        ("label", target.label.text if target.label else ""),
        ("layer", str(explanation.provenance.get("layer", ""))),
        ("sum", f"{total:.4g} {explanation.unit}" if explanation.additive else ""),
        ("note", " ".join(explanation.cautions)),
    ]
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>"
        for key, value in rows
        if value
    )
    title = html.escape(explanation.title)
    return (
        f"<figure style='margin:0'><img alt='{title}' src='data:image/png;base64,{picture}'>"
        f"<figcaption><b>{title}</b><table>{cells}</table></figcaption></figure>"
    )


def bundle_of(data: bytes, media_type: str) -> dict[str, Any]:
    """Return a file as notebooks show it, by media type; empty if they show only text of it."""
    if media_type == "image/svg+xml":
        return {media_type: data.decode()}
    if media_type.startswith("image/"):
        return {media_type: base64.b64encode(data).decode()}
    if media_type != "text/html":
        return {}
    # A page of its own, so that its styles and scripts stay apart from those of the notebook.
    page = html.escape(data.decode(), quote=True)
    return {
        media_type: f'<iframe srcdoc="{page}" sandbox="allow-scripts" '
        f'style="width:100%;height:{_PAGE_HEIGHT}px;border:0"></iframe>'
    }
