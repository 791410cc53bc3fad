"""What the mathematics says of each method, on published architectures in float64.

With random weights: an identity that holds for what a network has learned only is none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core import (
    ClassScore,
    Contrast,
    Distribution,
    Error,
    Explainer,
    Margin,
    Target,
    VisionModel,
    get_explainer,
)
from cvx_core.recording import Requirements
from cvx_core.recording.layer_selection.selection import open_recording

SIDE = 64
CLASSES = 5
Map = npt.NDArray[np.float32]


def awake(net: nn.Module) -> VisionModel:
    """Give what starts at zero or one, where everything holds, the values of a trained network."""
    for parameter in net.parameters():
        if parameter.ndim == 1 or not parameter.any():
            nn.init.normal_(parameter, float(parameter.detach().mean()), 0.2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.0, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.7, 1.4)  # type: ignore[arg-type]
    return VisionModel(net.double().eval())


def of_torchvision(name: str) -> nn.Module:
    import torchvision

    made: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=CLASSES)
    return made


def of_timm(name: str, **options: object) -> nn.Module:
    import timm

    made: nn.Module = timm.create_model(name, num_classes=CLASSES, **options)
    return made


VIT = {"img_size": SIDE, "depth": 2, "embed_dim": 24, "num_heads": 2}
SWIN = {"img_size": SIDE, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
BUILDS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: of_torchvision("resnet18"),
    "mobilenet": lambda: of_torchvision("mobilenet_v3_small"),
    "convnext": lambda: of_timm("convnext_atto", depths=(1, 1, 1, 1)),
    "vit": lambda: of_timm("vit_tiny_patch16_224", **VIT),
    "swin": lambda: of_timm("swin_tiny_patch4_window7_224", **SWIN),
}
architectures = pytest.mark.parametrize("name", BUILDS)


@cache
def network(name: str) -> VisionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return awake(BUILDS[name]())


def images(count: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)


def several(model: VisionModel, one: Explainer, *targets: Target) -> Any:
    """Return the maps of several questions, which share their passes, as float64 (n, h, w)."""
    found = one.explain(model, images(), [list(targets)])
    return np.stack([explanation.values for explanation in found]).astype(float)


def of(model: VisionModel, one: Explainer, target: Target, label: int | None = None) -> Map:
    return one.explain(model, images(), target, label)[0].values


def explainer(method: str, **parameters: object) -> Explainer:
    return get_explainer(method, **parameters)


def same(found: Map, expected: npt.NDArray[np.floating]) -> None:
    """Maps are handed out in float32: seven digits of the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert np.abs(expected).max() > 0


SIGNED = {
    "grad-cam": explainer("class-attention", weighting="grad-cam"),
    "hires-cam": explainer("class-attention", weighting="hires-cam"),
    "input-x-gradient": explainer("gradient-error", output="signed"),
    "activation-error": explainer("activation-error"),
    "frozen gates": explainer("activation-error", rule="frozen"),
    "frozen gates at the input": explainer("activation-error", rule="frozen", layer="input"),
}
signed = pytest.mark.parametrize("method", SIGNED)


@signed
@architectures
def test_the_map_of_the_whole_answer_is_the_mean_of_the_classes_maps(
    name: str, method: str
) -> None:
    """C_p = sum_c p_c C_c."""
    model, one = network(name), SIGNED[method]
    p = model.logits(images()).softmax(1)[0]
    whole, *classes = several(model, one, Distribution(), *map(ClassScore, range(CLASSES)))
    same(whole, np.tensordot(p.numpy(), classes, 1))


@signed
@architectures
def test_why_p_rather_than_q_is_the_opposite_of_why_q_rather_than_p(name: str, method: str) -> None:
    model, one = network(name), SIGNED[method]
    targets = Contrast(1, 3), Contrast(3, 1), ClassScore(1), ClassScore(3)
    there, back, p, q = several(model, one, *targets)
    same(back, -there)
    same(there, p - q)


@architectures
def test_the_error_map_is_the_pull_of_the_other_classes_less_that_of_the_truth(name: str) -> None:
    """g = (1 - p_y) [ sum_{s != y} a_s dz_s/dx - dz_y/dx ], a_s = p_s / (1 - p_y)."""
    model, one, y = network(name), SIGNED["input-x-gradient"], 2
    p = model.logits(images()).softmax(1)[0].tolist()
    error, *pulls = several(model, one, Error(y), *map(ClassScore, range(CLASSES)))
    others = sum(p[c] / (1 - p[y]) * pulls[c] for c in range(CLASSES) if c != y)
    same(error, (1 - p[y]) * (others - pulls[y]))


def loss(model: VisionModel, x: Tensor, label: int) -> float:
    return float(F.cross_entropy(model.logits(x), torch.tensor([label])))


@architectures
def test_part_of_the_signed_error_is_how_the_loss_changes_as_that_part_is_scaled(
    name: str,
) -> None:
    """sum over R of x * dL/dx = dL/dt of L(x + t x on R) at 0, by central differences."""
    model, x, y = network(name), images(), 1
    part = torch.zeros_like(x)
    part[..., 8:40, 16:60] = x[..., 8:40, 16:60]
    step = 1e-7  # so small that hardly a ReLU changes its mind on the way
    expected = (loss(model, x + step * part, y) - loss(model, x - step * part, y)) / (2 * step)
    found = of(model, SIGNED["input-x-gradient"], Error(), y)[8:40, 16:60].sum(dtype=np.float64)
    # The map is in float32, and the loss is rounded at 1e-16 / step.
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-8)


@architectures
@pytest.mark.parametrize(
    "method",
    ["input-x-gradient", "activation-error", "frozen gates", "frozen gates at the input"],
)
def test_a_right_answer_has_a_margin_of_exactly_zero(name: str, method: str) -> None:
    model = network(name)
    right = int(model.logits(images()).argmax())
    assert not of(model, SIGNED[method], Margin(), right).any()


@pytest.mark.parametrize(
    "parameters", [{}, {"rule": "frozen"}, {"rule": "frozen", "layer": "input"}]
)
@architectures
def test_the_total_of_the_error_is_the_loss_less_the_entropy(
    name: str, parameters: dict[str, str]
) -> None:
    """sum_c e_c z_c = L - H(p), at every layer; and all of it is found again."""
    model, y = network(name), 3
    [found] = explainer("activation-error", **parameters).explain(model, images(), Error(), y)
    p = model.logits(images()).softmax(1)[0]
    entropy = float(-(p * p.log()).sum())
    assert found.evidence["total"] == pytest.approx(loss(model, images(), y) - entropy, rel=1e-9)
    assert found.evidence["residual"] < 1e-9


@architectures
def test_from_one_image_to_another_the_constants_cancel(name: str) -> None:
    """<s, f(x)> - <s, f_frozen(x')> = <g, x - x'>, for any x'."""
    x, other = images(2, seed=1), images(2, seed=2)
    with open_recording(
        network(name), x, Requirements("input", gates="frozen", tape=True)
    ) as recording:
        seed = torch.linspace(-1, 1, 2 * CLASSES, dtype=x.dtype).reshape(2, CLASSES)
        [gradient] = recording.gradients(seed, "input")
        change = (seed * (recording.logits.detach() - recording.replay("input", other))).sum(1)
        torch.testing.assert_close((gradient * (x - other)).sum((1, 2, 3)), change)


class Half(nn.Module):
    """A network that is shown the left half of the image alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[..., SIDE // 2 :] = 0.5
        answer: Tensor = self.inner(x)
        return answer


READS = {
    "reads": explainer("reads", query=(12, 12)),
    "saliency": explainer("saliency"),
    "input-x-gradient": SIGNED["input-x-gradient"],
    "integrated-gradients": explainer("integrated-gradients", steps=4),
    "frozen gates at the input": SIGNED["frozen gates at the input"],
}


@pytest.mark.parametrize("method", READS)
@architectures
def test_what_the_network_ignores_is_exactly_zero(name: str, method: str) -> None:
    model = VisionModel(Half(network(name).module))
    found = of(model, READS[method], ClassScore(0))
    assert not found[:, SIDE // 2 :].any()
    assert found[:, : SIDE // 2].any()


def test_a_cell_reads_nothing_outside_its_receptive_field() -> None:
    """ResNet-18 up to its first stage: 7, then 3 at stride 2, then four times 3 at stride 4.

    7 + 2 * 2 + 4 * 2 * 4 = 43 pixels. Cell 8 of 16 has its centre at 32: from 11 to 53.
    """
    one = explainer("reads", layer="layer1", query=(33, 33))
    found = of(network("resnet"), one, ClassScore(0))
    inside = np.zeros_like(found, dtype=bool)
    inside[11:54, 11:54] = True
    assert not found[~inside].any()
    # Every border pixel is read by some path; in float32 the weakest is still a number.
    assert found[inside].astype(bool).mean() > 0.9


@architectures
def test_a_map_that_does_not_depend_on_the_class_is_the_same_for_all(name: str) -> None:
    model, one = network(name), explainer("energy")
    first, second = several(model, one, ClassScore(0), Contrast(1, 2))
    np.testing.assert_array_equal(first, second)


def on_a_torus(build: Callable[[], nn.Module]) -> VisionModel:
    """Let all convolutions go on at the other side, so that a shifted image has no new border."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build()
        for module in net.modules():
            if isinstance(module, nn.Conv2d) and any(module.padding):
                module.padding_mode = "circular"
                module._reversed_padding_repeated_twice = [
                    n for n in reversed(module.padding) for _ in range(2)
                ]
        return awake(net)


TORI: dict[str, Callable[[], nn.Module]] = {
    "mnasnet": lambda: of_torchvision("mnasnet0_5"),
    "mobilenet_v3": lambda: of_torchvision("mobilenet_v3_small"),
    "convnext": BUILDS["convnext"],
}
TOTAL_STRIDE = 32
SHIFTED = {
    # What biases take is enlarged smoothly, which treats the borders of an image apart.
    **{name: one for name, one in SIGNED.items() if name != "activation-error"},
    "energy": explainer("energy"),
    "saliency": explainer("saliency"),
    "lrp-epsilon": explainer("lrp-epsilon"),
}


@pytest.mark.parametrize("method", SHIFTED)
@pytest.mark.parametrize("name", TORI)
def test_shifting_the_image_by_the_total_stride_shifts_the_map(name: str, method: str) -> None:
    model, one = on_a_torus(TORI[name]), SHIFTED[method]
    x = F.pad(images(), (0, 64, 0, 32))  # 3 x 4 cells
    [here] = one.explain(model, x, ClassScore(2))
    [there] = one.explain(model, x.roll((TOTAL_STRIDE, 2 * TOTAL_STRIDE), (2, 3)), ClassScore(2))
    pixels = here.values.shape[0] // 3  # a cell, or the pixels of one
    same(there.values, np.roll(here.values, (pixels, 2 * pixels), (0, 1)).astype(float))
    assert np.ptp(here.values) > 0
