"""What this plugin offers."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce class attention."""
    yield Component(
        "class-attention",
        "Which places speak for a class (Grad-CAM, HiResCAM)",
        "cvx_class_attention.explainer:ClassAttention",
    )
