"""What this plugin offers."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce gradient error attribution."""
    yield Component(
        "gradient-error",
        "The gradient of the error at the input pixels",
        "cvx_gradient_error.explainer:GradientError",
    )
