"""Networks that trip explainers up: shared, wrapped, compiled, computed again, overwritten."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cvx_core import ClassScore, get_explainer
from cvx_core.models.forward import eager
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.testing import models

Build = Callable[[Callable[[], Any]], Any]


def images(count: int = 2, size: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, size, size, generator=generator, dtype=dtype)


def maps(model: VisionModel, x: Tensor, *places: str, gates: Any = "native") -> list[Tensor]:
    with open_recording(model, x, Requirements(*places, gates=gates)) as recording:
        return recording.gradients(torch.ones_like(recording.logits), *places)


class Tied(nn.Module):
    """One weight that is used as a convolution, twice, and as the head."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.two(F.gelu(self.one(x))))
        return x.mean((2, 3)) @ self.one.weight[:, :, 0, 0].T


def test_tied_weights_are_conserved(seeded: Build, residual: Callable[..., float]) -> None:
    model = VisionModel(seeded(Tied).double())
    assert residual(model, images()) < 1e-12
    assert residual(model, images(), "two") < 1e-12


class Prediction(dict[str, Any]):
    """A mapping whose keys are attributes too, as the outputs of transformers."""

    __getattr__ = dict.__getitem__


class Wrapping(nn.Module):
    """A block whose output is wrapped in something."""

    def __init__(self, wrap: Callable[[Tensor], Any], unwrap: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.block, self.head = _Wrapped(wrap), nn.Linear(4, 3)
        self.unwrap = unwrap

    def forward(self, x: Tensor) -> Any:
        return Prediction(logits=self.head(self.unwrap(self.block(x)).mean((2, 3))), hidden=None)


class _Wrapped(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.wrap = nn.Conv2d(3, 4, 3), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.inner(x).relu())


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda x: (x, None), lambda y: y[0]),
        (lambda x: [x.sum(), x], lambda y: y[1]),
        (lambda x: {"map": x, "size": 4}, lambda y: y["map"]),
        (lambda x: Prediction(map=x), lambda y: y.map),
        (lambda x: (None, {"map": (x,)}), lambda y: y[1]["map"][0]),
        (lambda x: torch.return_types.max((x, x.long())), lambda y: y.values),
    ],
    ids=["tuple", "list", "dict", "mapping with attributes", "nested", "named"],
)
def test_modules_may_return_tuples_and_mappings(
    seeded: Build, residual: Callable[..., float], wrap: Any, unwrap: Any
) -> None:
    model = VisionModel(seeded(lambda: Wrapping(wrap, unwrap).double()))
    expected = maps(model, images(), "block.inner")
    assert residual(model, images(), "block") < 1e-12
    with open_recording(model, images(), Requirements("block")) as recording:
        [gradient] = recording.gradients(torch.ones_like(recording.logits), "block")
        passed = gradient * (recording.raw("block") > 0)
    torch.testing.assert_close([passed], expected)


def test_a_compiled_module_is_recorded_as_what_was_compiled(model: VisionModel) -> None:
    compiled = VisionModel(torch.compile(model.module, backend="eager"))
    torch.testing.assert_close(
        maps(compiled, images(), "two"), maps(model, images(), "two"), rtol=0, atol=0
    )


def test_a_compiled_module_inside_runs_as_it_was_written(
    seeded: Build, residual: Callable[..., float]
) -> None:
    net = seeded(models.Convolutional).double()
    expected = maps(VisionModel(net), models.inputs().double(), "third", gates="frozen")
    net.third = torch.compile(net.third, backend="eager")
    model = VisionModel(net)
    found = maps(model, models.inputs().double(), "third", gates="frozen")
    torch.testing.assert_close(found, expected)
    assert residual(model, models.inputs().double()) < 1e-12


def test_eight_threads_on_one_model_get_what_each_gets_alone(model: VisionModel) -> None:
    model.module.train()
    batches = [images() + i for i in range(16)]
    requirements = [("input",), ("relu#0",), ("two",), ("input", "two")]

    def one(i: int) -> list[Tensor]:
        return maps(model, batches[i], *requirements[i % 4], gates=("native", "frozen")[i // 4 % 2])

    serial = [one(i) for i in range(16)]
    fresh = VisionModel(model.module)
    model = VisionModel(model.module)
    with ThreadPoolExecutor(8) as threads:
        parallel = list(threads.map(one, range(16)))
    for alone, together in zip(serial, parallel, strict=True):
        assert all(map(torch.equal, alone, together))
    assert all(m.training for m in fresh.module.modules())


class Checkpointed(nn.Module):
    """A block whose inside is computed again in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.GroupNorm(2, 4), nn.Linear(4, 3)
        self.again: Any = lambda f, x: checkpoint(f, x, use_reentrant=reentrant)

    def inside(self, x: Tensor) -> Tensor:
        return F.gelu(self.norm(self.block(x)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.inside, self.stem(x)) * 2.0
        x = self.again(self.inside, x)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("place", ["input", "stem", "block#0", "norm#1"])
@pytest.mark.parametrize("gates", ["native", "frozen"])
def test_activation_checkpointing_changes_no_gradient(
    seeded: Build, residual: Callable[..., float], place: str, gates: Any
) -> None:
    model = VisionModel(seeded(lambda: Checkpointed(False).double()))
    found = maps(model, images(), place, gates=gates)
    assert residual(model, images(), place) < 1e-12
    both = maps(model, images(), "input", place, gates=gates)
    model.module.again = lambda f, x: f(x)
    torch.testing.assert_close(both, maps(model, images(), "input", place, gates=gates))
    torch.testing.assert_close(found, maps(model, images(), place, gates=gates))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(
    "method", ["deep-lift", "lrp-epsilon", "lrp-flat", "full-grad", "attn-lrp", "grad-cam"]
)
def test_activation_checkpointing_changes_no_map(
    seeded: Build, method: str, *, reentrant: bool
) -> None:
    """Rules would miss what runs again, and torch.autograd.grad refuses reentrant checkpoints."""
    model = VisionModel(seeded(lambda: Checkpointed(reentrant).double()))
    [found] = get_explainer(method).explain(model, images(1), ClassScore(1))
    model.module.again = lambda f, x: f(x)
    [plain] = get_explainer(method).explain(model, images(1), ClassScore(1))
    np.testing.assert_allclose(found.values, plain.values, rtol=1e-5)
    assert plain.values.any()


@pytest.mark.parametrize("method", ["deep-lift", "lrp-epsilon"])
def test_a_timm_transformer_with_checkpointing_has_the_same_map(seeded: Build, method: str) -> None:
    timm = pytest.importorskip("timm")
    options = {"img_size": 32, "depth": 2, "num_classes": 3}
    net = seeded(lambda: timm.create_model("vit_tiny_patch16_224", **options))
    maps_ = []
    for switched in (True, False):
        net.set_grad_checkpointing(switched)
        x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        [one] = get_explainer(method).explain(VisionModel(net), x, ClassScore(1))
        maps_.append(one.values)
    np.testing.assert_allclose(*maps_, rtol=1e-4, atol=1e-6 * np.abs(maps_[0]).max())


def test_checkpointing_is_off_in_one_thread_and_afterwards_as_it_was() -> None:
    """A function that is checkpointed runs twice: forward and again in the backward pass."""
    runs: list[int] = []

    def square(x: Tensor) -> Tensor:
        runs.append(threading.get_ident())
        return x**2

    def trained() -> int:
        before = len(runs)
        leaf = torch.ones(2, requires_grad=True)
        checkpoint(square, leaf, use_reentrant=False).sum().backward()
        assert leaf.grad.tolist() == [2, 2]
        return len(runs) - before

    with eager():
        assert trained() == 1
        with ThreadPoolExecutor(1) as other:
            assert other.submit(trained).result() == 2
    assert trained() == 2


class Overwriting(nn.Module):
    """Overwrites in place what its gradient needs; PyTorch refuses to train such a network."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 1.0
        z = y.sin()
        y += 1
        y[:, :, 0] = 3.0
        w = F.relu(z)
        w += z * y
        z.mul_(2.0)
        return w.exp().flatten(2).mean(2)


def test_what_the_gradient_needs_may_be_overwritten() -> None:
    x = images(1)
    with pytest.raises(RuntimeError, match="inplace"):
        Overwriting()(x.clone().requires_grad_()).sum().backward()
    # w = max(sin x, 0) + sin(x) (x + 1), but 3 sin x in the first row; the logits are means of e^w.
    sine, cosine, positive = x.sin(), x.cos(), (x.sin() > 0).double()
    weight = x + 1
    weight[:, :, 0] = 3.0
    slope = cosine * (positive + weight) + sine
    slope[:, :, 0] -= sine[:, :, 0]
    w = sine.clamp_min(0) + sine * weight
    [found] = maps(VisionModel(Overwriting()), x, "input")
    torch.testing.assert_close(found, w.exp() * slope / 64)


def test_a_network_made_under_inference_mode_is_explained(seeded: Build) -> None:
    with torch.inference_mode():
        net = seeded(models.Convolutional).double()
    plain = seeded(models.Convolutional).double()
    x = models.inputs().double()
    for gates in ("native", "frozen"):
        found = maps(VisionModel(net), x, "input", "auto", gates=gates)
        expected = maps(VisionModel(plain), x, "input", "auto", gates=gates)
        torch.testing.assert_close(found, expected)
