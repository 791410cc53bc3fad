"""Components of this plugin."""

from collections.abc import Iterable

from cvx_core import Component, hookimpl


@hookimpl
def cvx_explainers() -> Iterable[Component]:
    """Announce the explainers."""
    yield Component(
        "norm-grad",
        "Norm of the activations times norm of the gradients.",
        "cvx_example.norm_grad:NormGrad",
    )
    yield Component(
        "smooth-relu",
        "Input times gradient, with a smooth derivative of ReLU.",
        "cvx_example.smooth_relu:SmoothRelu",
    )


@hookimpl
def cvx_renderers() -> Iterable[Component]:
    """Announce the renderer."""
    yield Component("markdown", "One table of all maps.", "cvx_example.markdown:Markdown")


@hookimpl
def cvx_model_sources() -> Iterable[Component]:
    """Announce the model source."""
    yield Component("colors", "Networks with known explanations.", "cvx_example.colors:Colors")


@hookimpl
def cvx_tasks() -> Iterable[Component]:
    """Announce the task."""
    yield Component("count", "The number of objects, by a density map.", "cvx_example.count:Count")


@hookimpl
def cvx_commands() -> Iterable[Component]:
    """Announce the command."""
    yield Component(
        "runner-up",
        "Explain why the predicted class scores higher than the second.",
        "cvx_example.runner_up:command",
    )


@hookimpl
def cvx_engines() -> Iterable[Component]:
    """Announce the engine."""
    yield Component(
        "random-order", "Runs the blocks in random order.", "cvx_example.random_order:RandomOrder"
    )


@hookimpl
def cvx_checks() -> Iterable[Component]:
    """Announce the check."""
    yield Component(
        "stability", "Compares maps of noisy images.", "cvx_example.stability:Stability"
    )
