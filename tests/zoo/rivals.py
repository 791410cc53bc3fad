"""The same question put to other libraries, with their defaults, and what became of it.

Each gets a copy of the network whose output is the logits alone, and where it can't do without
the name of a layer, the module that cvx found. Grad-CAM is compared with its formula (Selvaraju
2017, eq. 1 and 2) computed here by plain automatic differentiation at the same module.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core.errors import CvxError
from cvx_core.recording import Layout
from cvx_core.testing.kits.explainers import assert_state, state_of

SAME = 0.99
"""Correlation from which two maps of Grad-CAM count as the same: libraries resize and scale."""

COMPLETE = 1e-3
"""Largest gap, relative to the total, with which an attribution counts as complete."""

GROWN = 100.0
"""Relevance at the input, over the score, from which it counts as grown on the way. The rules share
out what there is: the last layer's parts of both signs may be several times the score, no more."""


class Logits(nn.Module):
    """A network whose output is the logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, C)."""
        return cvx.readout.classification(self.net(x))


class Asked:
    """What a library gets: a network of its own, an image, a class and perhaps a module."""

    def __init__(self, net: nn.Module, x: Tensor, place: str, target: int) -> None:
        self.net = Logits(copy.deepcopy(net)).eval()
        self.x, self.place, self.target = x, place, target

    @property
    def module(self) -> nn.Module:
        """The module that cvx found."""
        return self.net.get_submodule(f"net.{self.place}")

    def grad_cam(self, name: str) -> np.ndarray | None:
        """Return Grad-CAM's formula at a module, rectified (h, w); None where it has no grid."""
        kept: list[Tensor] = []
        model = cvx.VisionModel(self.net)
        try:
            place = Layout.of(model, self.x).find(name)
        except CvxError:
            return None

        def keep(_module: Any, _args: Any, output: Any) -> Any:
            tensor = output if isinstance(output, Tensor) else output[0]
            kept.append(tensor)
            return None

        handle = self.net.get_submodule(place.module).register_forward_hook(keep)
        try:
            score = self.net(self.x)[0, self.target]
            [gradient] = torch.autograd.grad(score, kept[-1])
        finally:
            handle.remove()
        cells, slopes = place.positions(kept[-1].detach()), place.positions(gradient)
        weights = slopes.mean(dim=(2, 3), keepdim=True)
        return (weights * cells).sum(1)[0].clamp_min(0).double().numpy()


def _captum_saliency(asked: Asked) -> dict[str, Any]:
    from captum.attr import Saliency

    values = Saliency(asked.net).attribute(asked.x.clone(), target=asked.target)
    return _judged(values[0].sum(0))


def _captum_grad_cam(asked: Asked) -> dict[str, Any]:
    from captum.attr import LayerGradCam

    method = LayerGradCam(asked.net, asked.module)
    values = method.attribute(asked.x, target=asked.target, relu_attributions=True)
    values = values[0] if isinstance(values, tuple) else values
    return _compared(values[0].squeeze(0), asked.grad_cam(f"net.{asked.place}"))


def _captum_deep_lift(asked: Asked) -> dict[str, Any]:
    from captum.attr import DeepLift

    values = DeepLift(asked.net).attribute(asked.x.clone(), target=asked.target)
    with torch.no_grad():
        answers = asked.net(torch.cat([asked.x, torch.zeros_like(asked.x)]))[:, asked.target]
    total = float(answers[0] - answers[1])
    found = _judged(values[0].sum(0))
    found["gap"] = abs(float(values.sum()) - total) / max(abs(total), 1e-12)
    if found["verdict"] == "right" and found["gap"] > COMPLETE:
        found["verdict"] = "incomplete"
    return found


def _captum_lrp(asked: Asked) -> dict[str, Any]:
    from captum.attr import LRP

    return _judged(LRP(asked.net).attribute(asked.x.clone(), target=asked.target)[0].sum(0))


def _pytorch_grad_cam(asked: Asked) -> dict[str, Any]:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model=asked.net, target_layers=[asked.module]) as cam:
        values = cam(input_tensor=asked.x, targets=[ClassifierOutputTarget(asked.target)])
    return _compared(torch.as_tensor(values[0]), asked.grad_cam(f"net.{asked.place}"))


def _torchcam(asked: Asked) -> dict[str, Any]:
    from torchcam.methods import GradCAM

    shape = tuple(asked.x.shape[1:])
    with GradCAM(asked.net, input_shape=shape) as extractor:
        [name] = extractor.target_names
        [values] = extractor(asked.target, asked.net(asked.x))
    found = _compared(values[0], asked.grad_cam(name))
    found["layer"] = name.removeprefix("net.")
    return found


def _zennit(asked: Asked) -> dict[str, Any]:
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlusFlat

    with Gradient(asked.net, EpsilonPlusFlat()) as attributor:
        answer, values = attributor(asked.x, torch.eye(asked.net(asked.x).shape[1])[[asked.target]])
    found = _judged(values[0].sum(0))
    found["grown"] = float(values.abs().sum()) / max(abs(float(answer[0, asked.target])), 1e-12)
    if found["verdict"] == "right" and found["grown"] > GROWN:
        found["verdict"] = "grows"
    return found


RIVALS: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "captum Saliency": _captum_saliency,
    "captum LayerGradCam": _captum_grad_cam,
    "captum DeepLift": _captum_deep_lift,
    "captum LRP": _captum_lrp,
    "pytorch-grad-cam GradCAM": _pytorch_grad_cam,
    "torchcam GradCAM": _torchcam,
    "zennit EpsilonPlusFlat": _zennit,
}


def ask(name: str, net: nn.Module, x: Tensor, place: str, target: int) -> dict[str, Any]:
    """Return what became of the question: a verdict, and what led to it."""
    started = time.perf_counter()
    asked = Asked(net, x, place, target)
    before = state_of(asked.net)
    del before["versions"]  # what is written in place and put back is as found
    try:
        found = RIVALS[name](asked)
    except Exception as error:  # whatever another library raises is its answer
        found = {"verdict": "refused", "error": f"{type(error).__name__}: {error}"[:300]}
    try:
        assert_state(before, state_of(asked.net))
    except AssertionError as error:
        found["left"] = str(error).splitlines()[0][:100]
    found["seconds"] = time.perf_counter() - started
    return found


def _judged(values: Tensor) -> dict[str, Any]:
    """Judge a map by itself."""
    values = values.detach()
    if not bool(torch.isfinite(values).all()):
        return {"verdict": "not finite"}
    if values.ndim != 2:
        return {"verdict": "no map", "shape": list(values.shape)}
    if float(values.max() - values.min()) <= 1e-6 * float(values.abs().max()):
        return {"verdict": "constant"}
    return {"verdict": "right"}


def _compared(values: Tensor, formula: np.ndarray | None) -> dict[str, Any]:
    """Judge a map of Grad-CAM, at its grid or resized to the image, by the formula."""
    values = values.detach()
    if formula is None:
        return {"verdict": "no grid there", "shape": list(values.shape)}
    if not formula.any():
        # Nothing speaks for the class, and a map of zeros is right.
        right = values.ndim == 2 and not bool(torch.nan_to_num(values).any())
        return {"verdict": "right" if right else "other numbers"}
    found = _judged(values)
    if found["verdict"] != "right":
        return found
    mine = torch.from_numpy(formula)[None, None]
    if tuple(values.shape) != formula.shape:
        if not _of_the_image(tuple(values.shape), formula.shape):
            return {"verdict": "no map", "shape": list(values.shape)}
        size = tuple(values.shape)
        mine = nn.functional.interpolate(mine, size=size, mode="bilinear", align_corners=False)
    both = np.stack([mine[0, 0].numpy().ravel(), values.double().numpy().ravel()])
    found["correlation"] = float(np.corrcoef(both)[0, 1])
    if not found["correlation"] >= SAME:
        found["verdict"] = "other numbers"
    return found


def _of_the_image(shape: tuple[int, ...], grid: tuple[int, ...]) -> bool:
    """Whether a map has the grid's proportions and at least its size."""
    return min(shape) >= min(grid) and shape[0] * grid[1] == shape[1] * grid[0]
