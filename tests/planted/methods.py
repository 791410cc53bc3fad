"""Methods that say what an error comes from: ours, other libraries', and chance.

Each takes a network, one input, the wrong class and the true one, and gives a map (H, W) over the
input, large where it sees the cause, or a report that has one.
"""

from __future__ import annotations

from collections.abc import Callable

import captum.attr
import pytorch_grad_cam as pgc
import torch
import torch.nn.functional as F
from cvx_why import ErrorReport
from cvx_why.search.inpainting import inpaint
from torch import Tensor

import cvx_core as cvx
from cvx_core import VisionModel
from cvx_core.recording.layer_selection.selection import find_last_grid

Method = Callable[[VisionModel, Tensor, int, int], Tensor | ErrorReport]


def why(model: VisionModel, inputs: Tensor, wrong: int, true: int) -> ErrorReport:
    """Ask for a report on the same two classes whichever of them came first."""
    return cvx.why(model, inputs, true, rival=wrong)


def chance(model: VisionModel, inputs: Tensor, wrong: int, true: int) -> Tensor:
    """Draw a map."""
    seed = int(inputs.abs().sum() * 1000)
    return torch.rand(inputs.shape[2:], generator=torch.Generator().manual_seed(seed))


def dense_occlusion(model: VisionModel, inputs: Tensor, wrong: int, true: int) -> Tensor:
    """Inpaint 13 x 13 windows of a seventh of the side and average the fall of the margin."""
    side = inputs.shape[2]
    window = side // 7
    starts = torch.linspace(0, side - window, 13).round().int().tolist()
    masks = torch.zeros(169, 1, side, side, dtype=torch.bool)
    for k in range(169):
        masks[k, 0, starts[k // 13] : starts[k // 13] + window, starts[k % 13] :][:, :window] = True
    margins = [
        margin(model, inpaint(inputs.expand(len(part), -1, -1, -1), part), wrong, true)
        for part in masks.split(13)
    ]
    falls = margin(model, inputs, wrong, true) - torch.cat(margins)
    weights = masks[:, 0].float()
    return (weights * falls[:, None, None]).sum(0) / weights.sum(0).clamp_min(1)


def explained(name: str, **parameters: object) -> Method:
    """Return an explainer of cvx's, asked why the one class rather than the other."""

    def method(model: VisionModel, inputs: Tensor, wrong: int, true: int) -> Tensor:
        explainer = cvx.get_explainer(name, **parameters)
        [found] = explainer.explain(model, inputs, cvx.Contrast(wrong, true))
        return _over(torch.tensor(found.values), inputs)

    return method


def gradient_of_the_loss(model: VisionModel, inputs: Tensor, wrong: int, true: int) -> Tensor:
    """Return |dL/dx|, the largest of the channels."""
    x = inputs.clone().requires_grad_()
    F.cross_entropy(model.module(x), torch.tensor([true])).backward()
    assert x.grad is not None
    return x.grad.abs().amax(1)[0]


def of_captum(kind: str, **parameters: object) -> Method:
    """Return an attribution of Captum's for the margin, summed over the channels."""

    def method(model: VisionModel, inputs: Tensor, wrong: int, true: int) -> Tensor:
        def scalar(x: Tensor) -> Tensor:
            logits = model.module(x)
            return logits[:, wrong] - logits[:, true]

        attribution = getattr(captum.attr, kind)(scalar)
        found: Tensor = attribution.attribute(inputs.clone().requires_grad_(), **parameters)
        return found.detach().sum(1)[0]

    return method


class _Margin:
    """What pytorch-grad-cam asks of a network: the margin."""

    def __init__(self, wrong: int, true: int) -> None:
        self.wrong, self.true = wrong, true

    def __call__(self, output: Tensor) -> Tensor:
        return output[self.wrong] - output[self.true]


def of_grad_cam(kind: str) -> Method:
    """Return a map of pytorch-grad-cam's for the margin, at the last grid."""

    def method(model: VisionModel, inputs: Tensor, wrong: int, true: int) -> Tensor:
        place = find_last_grid(model, inputs)
        layer = model.module.get_submodule(place.module)
        reshape = place.cells if place.kind == "tokens" else None
        with getattr(pgc, kind)(model.module, [layer], reshape_transform=reshape) as cam:
            found = cam(inputs, targets=[_Margin(wrong, true)])
        model.module.zero_grad()
        return torch.tensor(found[0])

    return method


METHODS: dict[str, Method] = {
    "cvx why": why,
    "dense occlusion of the margin": dense_occlusion,
    "cvx activation-error": explained("activation-error"),
    "cvx activation-error, frozen gates, last grid": explained("activation-error", rule="frozen"),
    "cvx activation-error, frozen gates, input": explained(
        "activation-error", rule="frozen", layer="input"
    ),
    "cvx grad-cam, contrast": explained("grad-cam"),
    "pytorch-grad-cam GradCAM, margin": of_grad_cam("GradCAM"),
    "pytorch-grad-cam HiResCAM, margin": of_grad_cam("HiResCAM"),
    "pytorch-grad-cam LayerCAM, margin": of_grad_cam("LayerCAM"),
    "Captum IntegratedGradients, margin": of_captum("IntegratedGradients", n_steps=32),
    "Captum InputXGradient, margin": of_captum("InputXGradient"),
    "absolute gradient of the loss": gradient_of_the_loss,
    "chance": chance,
}


def margin(model: VisionModel, inputs: Tensor, wrong: int, true: int) -> Tensor:
    """Return the margins (n,) of inputs (n, C, H, W)."""
    logits = model.logits(inputs)
    return logits[:, wrong] - logits[:, true]


def _over(values: Tensor, inputs: Tensor) -> Tensor:
    return F.interpolate(
        values[None, None], size=inputs.shape[2:], mode="bilinear", align_corners=False
    )[0, 0]
