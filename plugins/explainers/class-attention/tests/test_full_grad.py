"""FullGrad: complete, and the paper's picture by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cvx_embedded
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core import ClassScore, Contrast, OptionError, VisionModel, get_explainer, load_model
from cvx_core.testing import models

PHOTOGRAPHS = sorted((Path(cvx_embedded.__file__).parent / "photos").glob("*.jpg"))


def relu_network() -> VisionModel:
    """Convolutions, batch normalisation, ReLUs, max pooling and two linear layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 16),
            nn.ReLU(),
            nn.Linear(16, 5),
        )
        nn.init.normal_(net[1].running_mean)
        nn.init.uniform_(net[1].running_var, 0.5, 2)
        nn.init.normal_(net[1].bias)
    return VisionModel(net.double().eval())


def parts_by_autograd(model: VisionModel, x: Tensor, c: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return x * dS/dx and for each module with a bias dS/d(output) * bias, as the paper says.

    The bias of batch normalisation is beta - gamma mean / sigma.
    """
    x = x.clone().requires_grad_()
    outputs: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _m, _a, out, name=name: outputs.setdefault(name, out)  # type: ignore[misc]
        )
        for name, module in model.module.named_children()
        if getattr(module, "bias", None) is not None
    ]
    score = model.module(x)[0, c]
    for handle in handles:
        handle.remove()
    gradient, *others = torch.autograd.grad(score, [x, *outputs.values()])
    parts = {}
    for (name, out), g in zip(outputs.items(), others, strict=True):
        module = model.module.get_submodule(name)
        bias = module.get_parameter("bias").detach()
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            assert module.running_mean is not None
            bias = bias - module.weight.detach() * module.running_mean * (
                (module.running_var + module.eps).rsqrt()
            )
        parts[name] = g * bias.reshape(1, -1, *[1] * (out.ndim - 2))
    return x.detach() * gradient, parts


def test_in_a_relu_network_the_map_holds_the_input_s_and_every_bias_s_part() -> None:
    """Proposition 1 of the paper, part by part against plain autograd."""
    model, x = relu_network(), models.inputs(1).double()
    carried, parts = parts_by_autograd(model, x, 2)
    [one] = get_explainer("full-grad").explain(model, x, ClassScore(2))
    spatial = sum(float(part.sum()) for part in parts.values() if part.ndim == 4)
    head = sum(float(part.sum()) for part in parts.values() if part.ndim == 2)
    score = float(model.logits(x)[0, 2])
    assert score == pytest.approx(float(carried.sum()) + spatial + head, rel=1e-12)
    assert one.evidence["total"] == pytest.approx(score, rel=1e-12)
    assert one.evidence["input_part"] == pytest.approx(float(carried.sum()), rel=1e-12)
    assert one.evidence["bias_part"] == pytest.approx(spatial, rel=1e-12)
    assert one.evidence["constant_part"] == pytest.approx(head, rel=1e-12)
    assert one.evidence["residual"] < 1e-13
    assert one.evidence["sum"] == pytest.approx(float(carried.sum()) + spatial, rel=1e-12)


def test_the_paper_s_picture_is_that_of_its_formula() -> None:
    """psi(dS/dx * x) + the sum over layers and channels of psi(dS/db * b), by plain autograd."""
    model, x = relu_network(), models.inputs(1).double()
    carried, parts = parts_by_autograd(model, x, 2)
    expected = torch.zeros(32, 32, dtype=torch.float64)
    for part in (carried, *(p for p in parts.values() if p.ndim == 4)):
        size = part.abs()
        share = (size - size.min()) / (size.max() - size.min())
        fine = F.interpolate(share, (32, 32), mode="bilinear", align_corners=False)
        expected += fine.sum(1)[0]
    [one] = get_explainer("full-grad", output="saliency").explain(model, x, ClassScore(2))
    np.testing.assert_allclose(one.values, expected.numpy(), rtol=1e-6)
    assert not one.signed
    assert one.evidence["residual"] < 1e-13
    assert "total" not in one.evidence, "the picture adds up to nothing"


@pytest.mark.parametrize(
    "build", [relu_network, models.convolutional, models.tokens], ids=["relu", "gelu", "tokens"]
)
def test_the_map_and_what_no_pixel_carries_sum_to_the_score(
    build: Callable[[], VisionModel],
) -> None:
    """For two images and a contrast, on any network, its gates being held."""
    model, x = build().to(dtype=torch.float64), models.inputs(2).double()
    logits = model.logits(x)
    for one, z in zip(
        get_explainer("full-grad").explain(model, x, Contrast(1, 3)), logits.tolist(), strict=True
    ):
        total = one.evidence["sum"] + one.evidence["constant_part"]
        assert total == pytest.approx(z[1] - z[3], rel=1e-10)
        assert one.evidence["residual"] < 1e-12
        # float32 values, a thousand of them
        scale = float(np.abs(one.values).sum())
        assert one.values.sum() == pytest.approx(one.evidence["sum"], abs=1e-6 * scale)


def test_the_real_network_is_complete_on_photographs() -> None:
    """Float32 sums over a million activations in 16 blocks."""
    found = get_explainer("full-grad").explain(load_model("embedded"), PHOTOGRAPHS)
    for one in found:
        assert one.values.shape == (224, 224)
        assert one.evidence["residual"] < 1e-4
        assert one.evidence["forwards"] == 1


def test_an_unknown_output_is_refused() -> None:
    with pytest.raises(OptionError, match=r"output must be one of .*, got 'absolute'"):
        get_explainer("full-grad", output="absolute")
