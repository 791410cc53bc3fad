"""Components of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl

_METHODS = {
    "explainer": (
        (
            "class-attention",
            "ClassAttention",
            "Regions that support a class (class activation map, Grad-CAM)",
        ),
        ("grad-cam", "GradCam", "Channels by their mean gradient (Selvaraju 2017)"),
        (
            "grad-cam-plus-plus",
            "GradCamPlusPlus",
            "Channels by their weighted positive gradients (Chattopadhyay 2018)",
        ),
        ("xgrad-cam", "XGradCam", "Channels by their activation-weighted gradient (Fu 2020)"),
        ("hires-cam", "HiResCam", "Each activation by its own gradient (Draelos 2020)"),
        ("layer-cam", "LayerCam", "Each activation by its own positive gradient (Jiang 2021)"),
    ),
    "interventions": (
        (
            "score-cam",
            "ScoreCam",
            "Channels by the score of what they leave of the image (Wang 2020)",
        ),
        ("ablation-cam", "AblationCam", "Channels by the score's drop without them (Desai 2020)"),
    ),
    "full_grad": (
        ("full-grad", "FullGrad", "The input's and every bias's part of the score (Srinivas 2019)"),
    ),
    "attention": (
        (
            "generic-attention",
            "GenericAttention",
            "Gradient-weighted attention through the layers (Chefer 2021)",
        ),
        ("legrad", "LeGrad", "The gradient of attention, layer by layer (Bousselham 2024)"),
    ),
}


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce class attention and its published variants."""
    for module, methods in _METHODS.items():
        for name, method, summary in methods:
            yield Component(name, summary, f"cvx_class_attention.{module}:{method}")
