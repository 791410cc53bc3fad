"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_renderers() -> Iterator[Component]:
    """Offer the figure renderer."""
    yield Component(
        "figure",
        "image beside its overlay, with color bar and evidence (png, svg, pdf)",
        "cvx_figure.figure:Figure",
    )
