"""Networks that no gradient passes, or whose inside can't be seen: a map, or the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvx_core import ClassScore, LayerError, MethodError, VisionModel, get_explainer
from cvx_core.plugins.discovery import registry

IMAGE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 2, 1)
        self.relu, self.fc = nn.ReLU(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.second(self.relu(self.first(x)))).mean((2, 3)))


class InStatic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.begin, self.net, self.end = (
            torch.ao.quantization.QuantStub(),
            Small(),
            torch.ao.quantization.DeQuantStub(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.net(self.begin(x)))


class InInference(Small):
    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return super().forward(x)


class InNoGrad(Small):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


class Residual(Small):
    """Its quantized layer is beside a path that a gradient does pass."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 6)).eval())

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.relu(self.second(self.relu(self.first(x)))).mean((2, 3))
        return self.fc(pooled + self.mix(pooled))


def dynamic() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(Small().eval(), {nn.Linear})


def static() -> nn.Module:
    net = InStatic().eval()
    net.qconfig = torch.ao.quantization.default_qconfig
    torch.ao.quantization.prepare(net, inplace=True)
    net(torch.randn(4, 3, 16, 16))
    return torch.ao.quantization.convert(net, inplace=True)


CUT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dynamic int8": (dynamic, r"'fc': .*quantized.*Linear has no derivative"),
    "static int8": (static, r"'begin': .*Quantize has no derivative"),
    "quantized branch": (Residual, r"'mix.0': .*Linear has no derivative"),
    "inference mode": (InInference, r"'first': it runs under torch.inference_mode"),
    "no_grad": (InNoGrad, r"'first': it runs under torch.no_grad"),
}


def methods() -> list[str]:
    names = [offer.component.name for offer in registry().offers("explainer")]
    return [name for name in names if name != "epsilon-gamma-box"]  # it needs bounds


def explained(model: VisionModel, name: str) -> Any:
    options: dict[str, Any] = {"query": (5, 5)} if name in ("reads", "affects") else {}
    options |= {"masks": 40} if name == "rise" else {}
    return get_explainer(name, **options).explain(model, IMAGE, ClassScore(0))[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", CUT)
def test_every_method_gives_the_reason_or_needs_no_gradient(
    kind: str, seeded: Callable[..., Any]
) -> None:
    build, reason = CUT[kind]
    model = VisionModel(seeded(build).eval())
    for name in methods():
        if name in ("occlusion", "rise"):
            assert explained(model, name).values.any()
        else:
            with pytest.raises((MethodError, LayerError), match=reason) as caught:
                explained(model, name)
            assert "occlusion, rise" in caught.value.hint


def test_the_rule_of_occlusion_holds_without_a_gradient(seeded: Callable[..., Any]) -> None:
    """The twin without inference mode has the same scores, and so the same map."""
    plain, twin = seeded(Small), seeded(InInference)
    one, other = (explained(VisionModel(net), "occlusion") for net in (plain, twin))
    np.testing.assert_allclose(one.values, other.values, atol=1e-6)


class Scripted(nn.Module):
    def __init__(self, compile_: Callable[[nn.Module], nn.Module], part: str) -> None:
        super().__init__()
        net = Small().eval()
        self.body = nn.Sequential(net.first, net.relu, net.second, net.relu)
        self.head = net.fc
        setattr(self, part, compile_(getattr(self, part)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def traced(module: nn.Module) -> nn.Module:
    return torch.jit.trace(module, torch.randn(2, 3, 16, 16))


@pytest.mark.parametrize("compiled", ["script body", "script head", "trace body", "whole"])
def test_parts_in_torchscript_give_the_same_map_or_the_reason(
    compiled: str, seeded: Callable[..., Any]
) -> None:
    how, _, part = compiled.partition(" ")
    plain = seeded(Small).eval()
    compile_ = traced if how == "trace" else torch.jit.script
    net = (
        compile_(plain) if compiled == "whole" else seeded(lambda: Scripted(compile_, part)).eval()
    )
    model, twin = VisionModel(net), VisionModel(plain)
    same = ["saliency", "occlusion", *(["grad-cam"] if part == "head" else [])]
    for name in same:
        found, expected = explained(model, name), explained(twin, name)
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-7)
    for name in ("lrp-epsilon", "deep-lift", "full-grad"):
        with pytest.raises(MethodError, match="TorchScript module") as caught:
            explained(model, name)
        assert "Pass the Python module" in caught.value.hint
