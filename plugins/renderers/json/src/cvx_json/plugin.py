"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_renderers() -> Iterator[Component]:
    """Offer the renderer `json`."""
    yield Component(
        "json", "maps and metadata as JSON with a published schema", "cvx_json.renderer:Json"
    )
