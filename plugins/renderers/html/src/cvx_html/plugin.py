"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_renderers() -> Iterator[Component]:
    """Offer the renderer `html`."""
    yield Component(
        "html", "one self-contained interactive page for a whole run", "cvx_html.renderer:Html"
    )
