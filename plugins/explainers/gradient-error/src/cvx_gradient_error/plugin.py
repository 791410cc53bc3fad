"""Components of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl

_METHODS = (
    (
        "gradient-error",
        "explainer:GradientError",
        "Gradient error: change of the error with local contrast, by gradients on a path",
    ),
    (
        "saliency",
        "saliency:Saliency",
        "Saliency: largest absolute gradient over the channels (Simonyan 2013)",
    ),
    (
        "input-x-gradient",
        "saliency:InputXGradient",
        "Input x gradient: pixels times their gradients (Shrikumar 2016)",
    ),
    (
        "integrated-gradients",
        "integrated_gradients:IntegratedGradients",
        "Integrated gradients: mean gradient on the path from a baseline (Sundararajan 2017)",
    ),
    (
        "smoothgrad",
        "smoothgrad:SmoothGrad",
        "SmoothGrad: mean gradient over noisy copies (Smilkov 2017)",
    ),
    (
        "guided-backprop",
        "deconvnet:GuidedBackprop",
        "Guided backpropagation: shows edges; fails sanity checks (Springenberg 2015)",
    ),
    (
        "deconvnet",
        "deconvnet:Deconvnet",
        "Deconvolutional network: shows edges; fails sanity checks (Zeiler 2014)",
    ),
)


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce the family first, then its methods under the names of their papers."""
    for name, target, summary in _METHODS:
        yield Component(name, summary, f"cvx_gradient_error.{target}")
