"""Components of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl

_METHODS = (
    ("gradient-error", "explainer:GradientError", "The gradient of the error at the input pixels"),
    ("saliency", "saliency:Saliency", "The largest gradient of the channels (Simonyan 2013)"),
    (
        "input-x-gradient",
        "saliency:InputXGradient",
        "Each pixel times its gradient (Shrikumar 2016)",
    ),
    (
        "integrated-gradients",
        "integrated_gradients:IntegratedGradients",
        "The mean gradient on the path from a baseline (Sundararajan 2017)",
    ),
    (
        "smoothgrad",
        "smoothgrad:SmoothGrad",
        "The gradient's mean over noisy copies (Smilkov 2017)",
    ),
    (
        "guided-backprop",
        "deconvnet:GuidedBackprop",
        "Edges of the image; fails sanity checks (Springenberg 2015)",
    ),
    (
        "deconvnet",
        "deconvnet:Deconvnet",
        "Edges of the image; fails sanity checks (Zeiler 2014)",
    ),
)


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce the family first, then its methods under the names of their papers."""
    for name, target, summary in _METHODS:
        yield Component(name, summary, f"cvx_gradient_error.{target}")
