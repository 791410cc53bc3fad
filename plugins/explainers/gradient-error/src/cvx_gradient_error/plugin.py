"""Components of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce the family first, then its methods under the names of their papers."""
    yield Component(
        "gradient-error",
        "The gradient of the error at the input pixels",
        "cvx_gradient_error.explainer:GradientError",
    )
    yield Component(
        "saliency",
        "The largest gradient of the channels (Simonyan 2013)",
        "cvx_gradient_error.saliency:Saliency",
    )
    yield Component(
        "input-x-gradient",
        "Each pixel times its gradient (Shrikumar 2016)",
        "cvx_gradient_error.saliency:InputXGradient",
    )
    yield Component(
        "integrated-gradients",
        "The mean gradient on the path from a baseline (Sundararajan 2017)",
        "cvx_gradient_error.integrated_gradients:IntegratedGradients",
    )
    yield Component(
        "smoothgrad",
        "The gradient's mean over noisy copies (Smilkov 2017)",
        "cvx_gradient_error.smoothgrad:SmoothGrad",
    )
    yield Component(
        "guided-backprop",
        "Edges of the image; fails sanity checks (Springenberg 2015)",
        "cvx_gradient_error.deconvnet:GuidedBackprop",
    )
    yield Component(
        "deconvnet",
        "Edges of the image; fails sanity checks (Zeiler 2014)",
        "cvx_gradient_error.deconvnet:Deconvnet",
    )
