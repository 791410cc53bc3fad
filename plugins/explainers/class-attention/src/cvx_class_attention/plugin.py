"""Components of this plugin."""

from collections.abc import Iterator

from cvx_core import Component, hookimpl

_METHODS = {
    "explainer": (
        (
            "class-attention",
            "ClassAttention",
            "Class attention (class activation map): regions that support a class",
        ),
        (
            "grad-cam",
            "GradCam",
            "Grad-CAM: channels weighted by their mean gradient (Selvaraju 2017)",
        ),
        (
            "grad-cam-plus-plus",
            "GradCamPlusPlus",
            "Grad-CAM++: channels weighted by their positive gradients (Chattopadhyay 2018)",
        ),
        (
            "xgrad-cam",
            "XGradCam",
            "XGrad-CAM: channels weighted by their activation-weighted gradient (Fu 2020)",
        ),
        ("hires-cam", "HiResCam", "HiResCAM: activations times their gradients (Draelos 2020)"),
        (
            "layer-cam",
            "LayerCam",
            "LayerCAM: activations times their positive gradients (Jiang 2021)",
        ),
    ),
    "interventions": (
        (
            "score-cam",
            "ScoreCam",
            "Score-CAM: channels weighted by the score of the masked image (Wang 2020)",
        ),
        (
            "ablation-cam",
            "AblationCam",
            "Ablation-CAM: channels weighted by the score drop when set to zero (Desai 2020)",
        ),
    ),
    "full_grad": (
        (
            "full-grad",
            "FullGrad",
            "FullGrad: contributions of the input and of all biases (Srinivas 2019)",
        ),
    ),
    "attention": (
        (
            "generic-attention",
            "GenericAttention",
            "Generic attention: gradient-weighted attention rollout (Chefer 2021)",
        ),
        (
            "legrad",
            "LeGrad",
            "LeGrad: positive gradients of the attention, averaged over layers (Bousselham 2024)",
        ),
    ),
}


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    """Announce class attention and its published variants."""
    for module, methods in _METHODS.items():
        for name, method, summary in methods:
            yield Component(name, summary, f"cvx_class_attention.{module}:{method}")
