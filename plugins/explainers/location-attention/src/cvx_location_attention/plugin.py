"""What this plugin offers."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce location attention."""
    yield Component(
        "location-attention",
        "Where the model looks at all, and what one position reads",
        "cvx_location_attention.explainer:LocationAttention",
    )
