"""What this plugin offers."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce activation-based error propagation."""
    yield Component(
        "activation-error",
        "The error propagated back through the activations, conserved",
        "cvx_activation_error.explainer:ActivationError",
    )
