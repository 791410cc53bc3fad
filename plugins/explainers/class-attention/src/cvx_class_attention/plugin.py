"""Components of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce class attention and its published variants."""
    for name, summary, target in (
        (
            "class-attention",
            "Regions that support a class (class activation map, Grad-CAM)",
            "explainer:ClassAttention",
        ),
        ("grad-cam", "Channels by their mean gradient (Selvaraju 2017)", "explainer:GradCam"),
        (
            "grad-cam-plus-plus",
            "Channels by their weighted positive gradients (Chattopadhyay 2018)",
            "explainer:GradCamPlusPlus",
        ),
        (
            "xgrad-cam",
            "Channels by their activation-weighted gradient (Fu 2020)",
            "explainer:XGradCam",
        ),
        ("hires-cam", "Each activation by its own gradient (Draelos 2020)", "explainer:HiResCam"),
        (
            "layer-cam",
            "Each activation by its own positive gradient (Jiang 2021)",
            "explainer:LayerCam",
        ),
        (
            "score-cam",
            "Channels by the score of what they leave of the image (Wang 2020)",
            "interventions:ScoreCam",
        ),
        (
            "ablation-cam",
            "Channels by the score's drop without them (Desai 2020)",
            "interventions:AblationCam",
        ),
        (
            "full-grad",
            "The input's and every bias's part of the score (Srinivas 2019)",
            "full_grad:FullGrad",
        ),
        (
            "generic-attention",
            "Gradient-weighted attention through the layers (Chefer 2021)",
            "attention:GenericAttention",
        ),
        (
            "legrad",
            "The gradient of attention, layer by layer (Bousselham 2024)",
            "attention:LeGrad",
        ),
    ):
        yield Component(name, summary, f"cvx_class_attention.{target}")
