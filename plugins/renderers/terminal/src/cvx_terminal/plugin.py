"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_renderers() -> Iterator[Component]:
    """Offer the terminal renderer."""
    yield Component(
        "terminal",
        "half-block overlay and a table of the prediction, for a terminal or a text file",
        "cvx_terminal.terminal:Terminal",
    )
