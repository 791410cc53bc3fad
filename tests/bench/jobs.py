"""Jobs of the benchmark: the passes that a method needs at least, cvx, and other libraries."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import cvx_core as cvx

Run = Callable[[Tensor, Tensor], object]
"""Called with images (B, C, H, W) and classes (B,)."""

Contender = Callable[[nn.Module, nn.Module], Run]
"""Called with the network and its last layer with a grid."""


@dataclass(frozen=True)
class Job:
    """One job: the bare passes, and who does it."""

    name: str
    passes: str
    bare: Contender
    contenders: dict[str, Contender]


@contextmanager
def _without_parameters(network: nn.Module) -> Any:
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in network.parameters():
            parameter.requires_grad_(True)


def forward(network: nn.Module, layer: nn.Module) -> Run:
    """Run the network."""
    del layer

    def run(images: Tensor, classes: Tensor) -> object:
        del classes
        with torch.inference_mode():
            return network(images)

    return run


def to_input(network: nn.Module, layer: nn.Module) -> Run:
    """Run the network and its backward pass to the input."""
    del layer

    def run(images: Tensor, classes: Tensor) -> object:
        with _without_parameters(network):
            images = images.detach().requires_grad_()
            score = network(images).gather(1, classes[:, None]).sum()
            return torch.autograd.grad(score, images)

    return run


def to_layer(rounds: int) -> Contender:
    """Run the network and its backward pass to a layer, for several classes in turn."""

    def make(network: nn.Module, layer: nn.Module) -> Run:
        def run(images: Tensor, classes: Tensor) -> object:
            kept: list[Tensor] = []

            def keep(_module: Any, _args: Any, output: Tensor) -> Tensor:
                kept.append(output.detach().requires_grad_())
                return kept[0]

            handle = layer.register_forward_hook(keep)
            try:
                with _without_parameters(network):
                    logits = network(images)
                    return [
                        torch.autograd.grad(
                            logits.gather(1, classes[:, None] + k).sum(), kept, retain_graph=True
                        )
                        for k in range(rounds)
                    ]
            finally:
                handle.remove()

        return run

    return make


def of_cvx(*names: str, targets: int = 1) -> Contender:
    """Explain with cvx, each image several targets."""

    def make(network: nn.Module, layer: nn.Module) -> Run:
        del layer
        model, explainers = cvx.VisionModel(network), [cvx.get_explainer(name) for name in names]

        def run(images: Tensor, classes: Tensor) -> object:
            wanted = [[cvx.ClassScore(c + k) for k in range(targets)] for c in classes.tolist()]
            return cvx.explain(model, images, explainers, wanted)

        return run

    return make


def of_pytorch_grad_cam(network: nn.Module, layer: nn.Module) -> Run:
    """Run Grad-CAM of pytorch-grad-cam."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    method = GradCAM(model=network, target_layers=[layer])
    return lambda images, classes: method(
        input_tensor=images, targets=[ClassifierOutputTarget(int(c)) for c in classes]
    )


def of_captum(name: str, **options: Any) -> Contender:
    """Run a method of captum."""

    def make(network: nn.Module, layer: nn.Module) -> Run:
        from captum import attr

        on_layer = (layer,) if name.startswith("Layer") else ()
        method = getattr(attr, name)(network, *on_layer)
        return lambda images, classes: method.attribute(images, target=classes, **options)

    return make


def of_zennit(network: nn.Module, layer: nn.Module) -> Run:
    """Run EpsilonPlus of zennit."""
    del layer
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    def run(images: Tensor, classes: Tensor) -> object:
        with Gradient(model=network, composite=EpsilonPlus()) as method:
            seed = nn.functional.one_hot(classes, 1000).to(images.dtype)
            return method(images.detach().requires_grad_(), seed)

    return run


_STEPS = 8
JOBS = (
    Job(
        "Grad-CAM",
        "forward, backward to the layer",
        to_layer(1),
        {
            "cvx `grad-cam`": of_cvx("grad-cam"),
            "pytorch-grad-cam": of_pytorch_grad_cam,
            "captum": of_captum("LayerGradCam"),
        },
    ),
    Job(
        "Grad-CAM of 8 classes",
        "forward, 8 times backward to the layer",
        to_layer(8),
        {"cvx `grad-cam`": of_cvx("grad-cam", targets=8)},
    ),
    Job(
        "four class activation maps",
        "forward, backward to the layer",
        to_layer(1),
        {"cvx": of_cvx("grad-cam", "hires-cam", "xgrad-cam", "layer-cam")},
    ),
    Job("activation energy", "forward", forward, {"cvx `energy`": of_cvx("energy")}),
    Job(
        "saliency",
        "forward, backward to the input",
        to_input,
        {"cvx `saliency`": of_cvx("saliency"), "captum": of_captum("Saliency")},
    ),
    Job(
        f"integrated gradients, {_STEPS} steps",
        "forward, backward to the input",
        to_input,
        {
            "cvx `integrated-gradients`": of_cvx(f"integrated-gradients:steps={_STEPS}"),
            "captum": of_captum("IntegratedGradients", n_steps=_STEPS),
        },
    ),
    Job(
        "relevance",
        "forward, backward to the input",
        to_input,
        {
            "cvx `epsilon-plus`": of_cvx("epsilon-plus"),
            "cvx `activation-error`": of_cvx("activation-error"),
            "cvx `activation-error:rule=frozen`": of_cvx("activation-error:rule=frozen"),
            "zennit `EpsilonPlus`": of_zennit,
        },
    ),
)
