"""Running what comes after a place alone: the same logits, and nothing before it computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cvx_core.errors import MethodError, ModelError
from cvx_core.models.repeatability import check_repeatable
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Layout, Requirements
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.recording.layers.layer import Layer
from cvx_core.recording.partial_forward import PartialForward, rerun, rerun_gradient
from cvx_core.testing import models

Build = Callable[[Callable[[], Any]], Any]
ROWS = torch.tensor([2, 0, 0, 1])


class Convolutions(TorchDispatchMode):
    """Counts convolutions and matrix products of tensors that hold data."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("convolution", "mm", "addmm", "bmm", "_scaled_dot_product_flash_attention"):
            self.count += not any(isinstance(a, Tensor) and a.is_meta for a in args)
        return func(*args, **(kwargs or {}))


def put_in(model: VisionModel, x: Tensor, place: Layer, value: Tensor) -> Tensor:
    """The oracle: the whole network, with a plain hook that exchanges the output of a module."""
    calls = 0

    def exchange(_module: nn.Module, _args: object, _output: object) -> Tensor | None:
        nonlocal calls
        calls += 1
        return value.clone() if calls == place.call + 1 else None

    handle = model.module.get_submodule(place.module).register_forward_hook(exchange)
    with torch.no_grad():
        answer = model.read(model.module.eval()(x))
    handle.remove()
    return answer


def ran_alone(model: VisionModel, shape: tuple[int, ...], name: str) -> bool:
    """Whether no run had to fall back on the whole network."""
    x = torch.zeros(1, *shape, dtype=model.dtype)
    return PartialForward(model, x, Layout.of(model, x).find(name)).alone


def rerun_both(
    model: VisionModel, x: Tensor, name: str, rows: Tensor = ROWS
) -> tuple[Tensor, Tensor]:
    """Return the logits for noise at a place, and the oracle's."""
    with open_recording(model, x, Requirements(name)) as recording:
        noise = torch.Generator().manual_seed(0)
        shape = (len(rows), *recording.raw(name).shape[1:])
        value = torch.randn(shape, generator=noise).to(recording.raw(name))
        found = rerun(recording, name, value, rows)
        return found, put_in(model, x[rows], recording.layer(name), value)


@pytest.mark.parametrize("name", ["first", "relu#0", "norm", "second", "relu#1", "third"])
def test_a_convolutional_network_answers_as_when_it_is_run_whole(name: str) -> None:
    """Also behind the first of two calls of one module, and where a sum leads around it."""
    model = models.convolutional().to(dtype=torch.float64)
    found, expected = rerun_both(model, models.inputs().double(), name)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["patches", "blocks.0.qkv", "blocks.0", "blocks.1.up"])
def test_a_transformer_answers_as_when_it_is_run_whole(name: str) -> None:
    """Whose class token and positions are put beside the tokens that have no data."""
    model = models.tokens().to(dtype=torch.float64)
    found, expected = rerun_both(model, models.inputs().double(), name)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: torchvision.models.resnet18(weights=None), "layer4"),
        (lambda: torchvision.models.swin_t(weights=None), "features.5"),
        (lambda: timm.create_model("vit_tiny_patch16_224"), "blocks.10"),
        (lambda: torchvision.models.densenet121(weights=None), "features.denseblock4"),
        (lambda: torchvision.models.efficientnet_b0(weights=None), "features.7"),
    ],
    ids=["resnet", "swin", "vit", "densenet", "efficientnet"],
)
def test_published_networks_run_their_last_part_alone(
    build: Callable[[], nn.Module], name: str, seeded: Build
) -> None:
    model = VisionModel(seeded(build))
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    found, expected = rerun_both(model, x, name, torch.tensor([1, 0]))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert ran_alone(model, (3, 224, 224), name)


def test_what_comes_before_the_place_is_not_computed() -> None:
    """Of three convolutions and a linear layer only those behind the second convolution run."""
    model, x = models.convolutional(), models.inputs()
    with open_recording(model, x, Requirements("second")) as recording:
        value = recording.raw("second")
        check_repeatable(model, x)  # runs the whole network, once for each model
        with Convolutions() as counted:
            rerun(recording, "second", value, torch.arange(3))
    assert counted.count == 2
    assert ran_alone(model, (3, 32, 32), "second")


class Around(nn.Module):
    """A sum that leads around the place."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return (x + self.two(x)).mean((2, 3))


class Deciding(Around):
    """Reads a value before the place."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return self.two(-x if x.mean() > 0 else x).mean((2, 3))


class Overwriting(Around):
    """Writes what comes from the image into a tensor that doesn't."""

    def forward(self, x: Tensor) -> Tensor:
        buffer = torch.zeros(x.shape[0], 3, 8, 8, dtype=x.dtype)
        buffer[:, :, 1:] = self.one(x)[:, :, 1:]
        return (self.two(self.one(x)) + buffer).mean((2, 3))


@pytest.mark.parametrize("network", [Around, Deciding, Overwriting])
def test_where_the_part_can_t_run_alone_the_whole_network_runs(
    network: type[nn.Module], seeded: Build
) -> None:
    model = VisionModel(seeded(network).double())
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    found, expected = rerun_both(model, x, "two")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not ran_alone(model, (3, 8, 8), "two")


class Masking(Around):
    """Makes a mask of its own, on the device of its input, which is needed behind the place.

    Keeps what it has computed, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_count: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.arange(8, device=x.device) > torch.tensor([3], device=x.device)
        self.seen, self.by_count[len(x)] = x, x
        return (self.two(self.one(x)) * mask.to(x.dtype)).mean((2, 3))


def test_what_the_network_makes_beside_its_input_is_real(seeded: Build) -> None:
    model = VisionModel(seeded(Masking).double())
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    found, expected = rerun_both(model, x, "two")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert ran_alone(model, (3, 8, 8), "two")


def test_a_network_that_keeps_what_it_computes_keeps_nothing_without_data(seeded: Build) -> None:
    """Asked right after the part has run: any later run of the whole would cover the traces."""
    model, x = VisionModel(seeded(Masking)), torch.randn(3, 3, 8, 8)
    with open_recording(model, x, Requirements("two")) as recording:
        check_repeatable(model, x)  # runs the whole network, once for each model
        kept = model.module.seen
        rerun(recording, "two", recording.raw("two")[ROWS], ROWS)
        assert ran_alone(model, (3, 8, 8), "two")
        assert model.module.seen is kept
        assert not [count for count, one in model.module.by_count.items() if one.is_meta]


def test_the_gradient_of_the_part_is_that_of_finite_differences() -> None:
    """Central differences in float64 err by about 1e-9 of a value of order 1."""
    model, x = models.tokens().to(dtype=torch.float64), models.inputs().double()
    noise = torch.Generator().manual_seed(0)
    with open_recording(model, x, Requirements("blocks.0")) as recording:
        value = torch.randn(4, 17, 16, generator=noise, dtype=torch.float64)
        step = 1e-6 * torch.randn(value.shape, generator=noise, dtype=torch.float64)
        seed = torch.randn(4, 5, generator=noise, dtype=torch.float64)
        gradient = rerun_gradient(recording, seed, "blocks.0", value, ROWS)
        ahead, back = (rerun(recording, "blocks.0", value + s, ROWS) for s in (step, -step))
    expected = ((ahead - back) * seed).sum()
    assert float(2 * (gradient * step).sum().detach()) == pytest.approx(float(expected), rel=1e-6)


def test_an_error_of_the_network_s_own_comes_through() -> None:
    model, x = models.convolutional(), models.inputs()
    with (
        open_recording(model, x, Requirements("second")) as recording,
        pytest.raises(ModelError, match="failed on an input"),
    ):
        rerun(recording, "second", torch.zeros(1, 7, 8, 8), torch.tensor([0]))


def test_a_place_that_is_not_passed_is_named(seeded: Build) -> None:
    class Sometimes(Around):
        def forward(self, x: Tensor) -> Tensor:
            return (self.two(x) if len(x) < 3 else self.one(x)).mean((2, 3))

    model = VisionModel(seeded(Sometimes))
    with (
        open_recording(model, torch.zeros(2, 3, 8, 8), Requirements("two")) as recording,
        pytest.raises(MethodError, match="did not run two"),
    ):
        rerun(recording, "two", torch.zeros(4, 3, 8, 8), torch.tensor([0, 0, 1, 1]))
