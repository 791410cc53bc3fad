"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_renderers() -> Iterator[Component]:
    """Offer the renderer `npz`."""
    yield Component(
        "npz", "maps, images and metadata as NumPy arrays, no pickle", "cvx_npz.renderer:Npz"
    )
