"""Small random networks: what holds for one must hold for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import Tensor, nn

from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Recording, Requirements
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.testing.kits.explainers import assert_state, state_of, unusual

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_": lambda x: F.relu(x, inplace=True),
    "leaky": lambda x: F.leaky_relu(x, 0.1, inplace=True),
    "gelu": F.gelu,
    "silu_": lambda x: F.silu(x, inplace=True),
    "hardswish": F.hardswish,
    "mish": F.mish,
    "tanh": torch.tanh,
    "elu": F.elu,
    "none": lambda x: x,
}
MIXERS = ("none", "se", "glu", "attention", "pool", "square")
NORMS = ("none", "batch", "group", "layer", "instance", "rms")


@dataclass(frozen=True)
class Block:
    activation: str
    norm: str
    mixer: str
    residual: str
    reuse: bool


@dataclass(frozen=True)
class Recipe:
    blocks: tuple[Block, ...]
    bias: bool
    head: str
    seed: int


RECIPES = st.builds(
    Recipe,
    st.lists(
        st.builds(
            Block,
            st.sampled_from(sorted(ACTIVATIONS)),
            st.sampled_from(NORMS),
            st.sampled_from(MIXERS),
            st.sampled_from(("none", "add", "add_")),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
    st.booleans(),
    st.sampled_from(("mean", "max", "flat")),
    st.integers(0, 2**16),
)
WIDTH, SIZE = 4, 6


class Random(nn.Module):
    """A network after a recipe; `half` hides the right half of the image from it."""

    def __init__(self, recipe: Recipe, half: bool) -> None:
        super().__init__()
        self.recipe, self.half = recipe, half
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1, bias=recipe.bias)
        self.convs = nn.ModuleList(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=recipe.bias) for _ in recipe.blocks
        )
        self.norms = nn.ModuleList(self._norm(block.norm) for block in recipe.blocks)
        self.mix = nn.ModuleList(nn.Conv2d(WIDTH, 3 * WIDTH, 1) for _ in recipe.blocks)
        side = SIZE // 2 if half else SIZE
        features = WIDTH * (SIZE * side if recipe.head == "flat" else 1)
        self.head = nn.Linear(features, 3, bias=recipe.bias)

    @staticmethod
    def _norm(name: str) -> nn.Module:
        return {
            "none": nn.Identity,
            "batch": lambda: nn.BatchNorm2d(WIDTH),
            "group": lambda: nn.GroupNorm(2, WIDTH),
            "layer": lambda: nn.GroupNorm(1, WIDTH),
            "instance": lambda: nn.InstanceNorm2d(WIDTH, affine=True),
            "rms": lambda: nn.RMSNorm(SIZE // 2, eps=1e-3),
        }[name]()

    def forward(self, x: Tensor) -> Tensor:
        if self.half:
            x = x[..., : SIZE // 2]
        x = self.stem(x)
        for i, block in enumerate(self.recipe.blocks):
            y = self.convs[0 if block.reuse else i](x)
            y = self._normalised(block, self.norms[i], y)
            y = self._mixed(block.mixer, self.mix[i](y), ACTIVATIONS[block.activation](y))
            if block.residual == "add_":
                y += x
            x = x + y if block.residual == "add" else y
        x = {
            "mean": lambda: x.mean((2, 3)),
            "max": lambda: x.amax((2, 3)),
            "flat": lambda: x.flatten(1),
        }[self.recipe.head]()
        return self.head(x)

    @staticmethod
    def _normalised(block: Block, norm: nn.Module, y: Tensor) -> Tensor:
        if block.norm != "rms" or y.shape[-1] == SIZE // 2:
            return norm(y)
        return torch.cat([norm(part) for part in y.chunk(2, -1)], -1)

    @staticmethod
    def _mixed(how: str, three: Tensor, y: Tensor) -> Tensor:
        a, b, c = three.chunk(3, 1)
        if how == "se":
            return y * torch.sigmoid(y.mean((2, 3), keepdim=True))
        if how == "glu":
            return y + F.glu(torch.cat([a, b], 1), 1)
        if how == "attention":
            q, k, v = (t.flatten(2).transpose(1, 2) for t in (a, b, c))
            return y + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape_as(y)
        if how == "pool":
            return F.max_pool2d(y, 3, 1, 1) - y
        return y + a * b if how == "square" else y


def network(recipe: Recipe, *, half: bool = False) -> VisionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return VisionModel(Random(recipe, half).double().eval(), activation="none")


def images(recipe: Recipe) -> Tensor:
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    return torch.randn(2, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)


def gradients(recording: Recording, *seed: float) -> Tensor:
    rows = torch.tensor(seed, dtype=torch.float64).expand(2, -1)
    return recording.gradients(rows, "input", missing="zero")[0]


# The first example pays for imports; what is slow then is no fault of the network.
random_networks = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@random_networks
@given(recipe=RECIPES)
def test_conservation(recipe: Recipe, residual: Callable[..., float]) -> None:
    model, x = network(recipe), images(recipe)
    for place in ("input", "stem"):
        assert residual(model, x, place) <= 1e-9
    assert residual(model, x, "input", baseline=x.flip(0)) <= 1e-9


@random_networks
@given(recipe=RECIPES, a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_linearity_and_antisymmetry_in_the_seed(recipe: Recipe, a: float, b: float) -> None:
    for requirements in (Requirements("input"), Requirements("input", gates="frozen")):
        with open_recording(network(recipe), images(recipe), requirements) as recording:
            p, q = gradients(recording, 1, 0, 0), gradients(recording, 0, 1, 0)
            both = gradients(recording, a, b, 0)
            # Sums of some hundred products in float64, in another order.
            scale = float(p.abs().max() + q.abs().max()) * 4 + 1e-300
            assert float((both - (a * p + b * q)).abs().max()) <= 1e-12 * scale
            assert torch.equal(gradients(recording, 1, -1, 0), -gradients(recording, -1, 1, 0))


@random_networks
@given(recipe=RECIPES)
def test_locality(recipe: Recipe) -> None:
    """What the network never sees has exactly nothing, and something else has something."""
    for requirements in (Requirements("input"), Requirements("input", gates="frozen")):
        with open_recording(network(recipe, half=True), images(recipe), requirements) as recording:
            gradient = gradients(recording, 1, -2, 0.5)
        assert not gradient[..., SIZE // 2 :].any()


@random_networks
@given(recipe=RECIPES)
def test_the_state_is_restored(recipe: Recipe) -> None:
    model = network(recipe)
    unusual(model.module)
    before = state_of(model.module)
    with open_recording(
        model, images(recipe), Requirements("input", "auto", gates="frozen")
    ) as recording:
        seed: Any = torch.ones_like(recording.logits)
        recording.gradients(seed, "input", "auto", missing="zero")
    assert_state(before, state_of(model.module))
