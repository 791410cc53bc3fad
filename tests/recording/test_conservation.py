"""What each module hands on of an answer, by hand and on networks that lose something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Layout, Requirements
from cvx_core.recording.conservation import constant_part, measure_balance
from cvx_core.recording.layer_selection.selection import find_trunk, has_bypass, open_recording

IMAGE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double() + 0.5
SEED = torch.tensor([[1.0, -2.0, 0.5]]).double()


class Running(nn.Module):
    """A running product, which has no rule."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumprod(x, 2)


class Net(nn.Module):
    """A stem, two branches that are added, and a head; something in one branch and in between."""

    def __init__(self, branch: nn.Module, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True)
        self.left = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.right, self.between = nn.Sequential(nn.Conv2d(4, 4, 1), branch), between
        self.last, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = self.last(self.between(F.gelu(self.left(x)) + self.right(x)))
        self.relu(x)  # in place, and what it returns is left
        return self.head(x.mean((2, 3)))


def same(x: Tensor) -> Tensor:
    return x


def built(seeded: Callable[..., Any], branch: nn.Module, between: Any = same) -> VisionModel:
    return VisionModel(seeded(lambda: Net(branch, between).double()))


def gap(model: VisionModel, image: Tensor, name: str, seed: Tensor) -> float:
    """What the answer misses from a place on: total - <g, A> - constants."""
    with open_recording(model, image, Requirements(name, gates="frozen", tape=True)) as recording:
        carried = (recording.gradients(seed, name)[0] * recording.raw(name)).sum()
        rest = recording.logits.detach() - constant_part(recording, name)
        return float((seed * rest).sum() - carried)


def test_what_a_module_hands_on_by_hand() -> None:
    """x = (1, -2, 3); h = relu(2x + 1) = (3, 0, 7), z = h_1 - h_2 + h_3 + 5.

    With the gates (1, 0, 1) held and x = 0, h' = (1, 0, 1): the linear layer hands on
    2 * 1 + 2 * 3 = 8, its gradient behind a closed gate being 0; so does everything behind it.
    """

    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 1, 1), nn.Linear(3, 2)
            nn.init.constant_(self.first.weight, 2.0)
            nn.init.constant_(self.first.bias, 1.0)
            self.last.weight = nn.Parameter(torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.0, 0.0]]))
            self.last.bias = nn.Parameter(torch.tensor([5.0, 0.0]))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.relu(self.first(x)).flatten(1))

    x = torch.tensor([1.0, -2.0, 3.0]).reshape(1, 1, 1, 3)
    found = measure_balance(VisionModel(Three()), x, "input", torch.tensor([[1.0, 0.0]]))
    assert found.total == 8
    assert {one.module: one.passed_on for one in found.calls} == {
        "": 8, "first": 8, "last": 8, "readout": 8,
    }  # fmt: skip
    assert found.missing() == {"": 0, "first": 0, "last": 0, "readout": 0}


@pytest.mark.parametrize("name", ["input", "stem", "right.0"])
def test_the_module_that_loses_something_is_named_with_all_that_is_lost(
    name: str, seeded: Callable[..., Any]
) -> None:
    """Also in one of two branches; what the others lose is rounding."""
    model = built(seeded, Running())
    (culprit, missing), *others = measure_balance(model, IMAGE, name, SEED).missing().items()
    expected = gap(model, IMAGE, name, SEED)
    assert culprit == "right.1"
    assert abs(expected) > 1e-5
    assert missing == pytest.approx(expected, rel=1e-9)
    assert all(abs(lost) < 1e-12 for _, lost in others)


def test_a_function_in_the_network_s_own_forward_counts_for_the_network(
    seeded: Callable[..., Any],
) -> None:
    model = built(seeded, nn.Identity(), lambda x: torch.acos(x.tanh()))
    (culprit, missing), *others = measure_balance(model, IMAGE, "input", SEED).missing().items()
    assert culprit == ""
    assert missing == pytest.approx(gap(model, IMAGE, "input", SEED), rel=1e-9)
    assert all(abs(lost) < 1e-12 for _, lost in others)


def test_two_culprits_share_what_is_missing(seeded: Callable[..., Any]) -> None:
    model = built(seeded, Running(), lambda x: torch.cumprod(1 + 0.1 * x, 3))
    found = measure_balance(model, IMAGE, "input", SEED).missing()
    assert {name for name, lost in found.items() if abs(lost) > 1e-9} == {"", "right.1"}
    assert sum(found.values()) == pytest.approx(gap(model, IMAGE, "input", SEED), rel=1e-9)


def test_behind_the_last_culprit_nothing_is_missing(seeded: Callable[..., Any]) -> None:
    found = measure_balance(built(seeded, Running()), IMAGE, "last", SEED).missing()
    assert all(abs(lost) < 1e-12 for lost in found.values())


def test_a_checkpointed_part_is_as_any_other(seeded: Callable[..., Any]) -> None:
    class Checkpointed(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.stem(x))
            y = checkpoint(self.right, x, use_reentrant=False)
            return self.head(self.last(F.gelu(self.left(x)) + y).mean((2, 3)))

    model = VisionModel(seeded(lambda: Checkpointed(Running(), same).double()))
    (culprit, missing), *_ = measure_balance(model, IMAGE, "input", SEED).missing().items()
    assert culprit == "right.1"
    assert missing == pytest.approx(gap(model, IMAGE, "input", SEED), rel=1e-9)


def test_no_hook_stays(seeded: Callable[..., Any]) -> None:
    model = built(seeded, Running())
    measure_balance(model, IMAGE, "input", SEED)
    hooks = [
        value
        for module in model.module.modules()
        for key, value in vars(module).items()
        if key.endswith("_hooks")
    ]
    assert hooks
    assert not any(hooks)


def test_the_trunk_is_what_everything_passes(seeded: Callable[..., Any]) -> None:
    """Neither of the two branches, also where an in-place ReLU is used twice."""
    model = built(seeded, nn.Identity())
    layout = Layout.of(model, IMAGE)
    trunk = [place.name for place in find_trunk(model, IMAGE)]
    assert trunk == ["stem", "relu#0", "last"]
    for place in layout.layers:
        assert has_bypass(place, model, IMAGE) == (place.name not in trunk)


def test_the_trunk_is_found_on_an_image_on_which_all_units_are_silent() -> None:
    stem = nn.Conv2d(3, 4, 3)
    nn.init.ones_(stem.weight)
    nn.init.constant_(stem.bias, -0.05)
    net = nn.Sequential(stem, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    black = torch.zeros(1, 3, 8, 8)
    assert not net[:2](black).any()
    assert [layer.name for layer in find_trunk(VisionModel(net.eval()), black)] == ["0", "1"]


@pytest.mark.parametrize(
    ("architecture", "config", "inside"),
    [
        ("vit_tiny_patch16_224", {"depth": 3, "img_size": 64}, "blocks.1.attn"),
        ("resnet10t", {}, "layer3.0.conv2"),
        ("convnext_atto", {"depths": (1, 1, 2, 1)}, "stages.2.blocks.1.mlp"),
    ],
)
def test_the_trunk_of_real_architectures(
    architecture: str, config: dict[str, Any], inside: str, seeded: Callable[..., Any]
) -> None:
    """The blocks are in it and what is inside them is not, as two forward passes a place tell."""
    net = seeded(lambda: timm.create_model(architecture, num_classes=5, **config).double())
    for module in net.modules():  # a branch that starts at zero would carry nothing
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    model = VisionModel(net)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    trunk = find_trunk(model, image)
    names = {place.name for place in trunk}
    assert len(trunk) > 5
    assert not any(name.startswith(inside) for name in names)
    for place in trunk[::3]:
        assert not has_bypass(place, model, image), place.name
