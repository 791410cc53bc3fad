"""Networks with random weights that are as alive as the trained one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cvx_score.checks.random_weights import Randomised
from torch import Tensor, nn

import cvx_core as cvx
from cvx_core.errors import MethodError
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording.layer_selection.selection import find_last_grid
from cvx_core.testing import models
from cvx_core.testing.kits.explainers import assert_state, state_of


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 4, size: int = 32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=generator(7))


def changed(model: VisionModel, other: VisionModel) -> set[str]:
    """Return the names of the parameters that differ."""
    pairs = zip(model.module.named_parameters(), other.module.parameters(), strict=True)
    return {name for (name, mine), theirs in pairs if not torch.equal(mine, theirs)}


class Backwards(nn.Module):
    """Three layers, made in another order than they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.middle = nn.Linear(4, 3), nn.Conv2d(4, 4, 3)
        self.first = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("share", "layers"),
    [
        (0.0, {"last"}),
        (1 / 3, {"last"}),
        (2 / 3, {"last", "middle"}),
        (1.0, {"last", "middle", "first"}),
    ],
)
def test_layers_become_random_from_the_output_on_as_they_are_used(
    share: float, layers: set[str]
) -> None:
    model = VisionModel(Backwards())
    random = Randomised(model, images()).randomise(share, generator())
    assert {name.partition(".")[0] for name in changed(model, random)} == layers


def test_a_smaller_share_after_a_larger_one_brings_the_first_layers_back() -> None:
    model = VisionModel(Backwards())
    randomised = Randomised(model, images())
    randomised.randomise(1.0, generator())
    random = randomised.randomise(1 / 3, generator())
    assert changed(model, random) <= {"last.weight", "last.bias"}


def test_a_weight_that_is_handed_to_a_function_comes_with_its_parent() -> None:
    """nn.MultiheadAttention never calls its output projection."""

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 8, stride=8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            return self.head(self.attention(x, x, x)[0].mean(1))

    whole = VisionModel(Attending())
    random = Randomised(whole, images()).randomise(2 / 3, generator())
    names = changed(whole, random)
    assert {"attention.in_proj_weight", "attention.out_proj.weight", "head.weight"} <= names
    assert not any(name.startswith("patches") for name in names)


@pytest.mark.parametrize("build", [models.convolutional, models.tokens])
def test_the_model_itself_is_left_as_it_was(build: Callable[[], VisionModel]) -> None:
    model = build()
    model.module.train()
    before, digest = state_of(model.module), model.digest()
    Randomised(model, images()).randomise(1.0, generator())
    assert_state(before, state_of(model.module))
    assert model.digest() == digest


class Dying(nn.Module):
    """Eight layers without normalisation. All weights together have a negative mean, as the
    kernels of trained networks often do; two positive stripes keep the signal alive."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(3 if i == 0 else 16, 16, 3, padding=1) for i in range(8)
        )
        self.head = nn.Linear(16, 4)
        with torch.no_grad():
            for layer in self.layers:
                layer.weight.uniform_(-0.2, 0.0, generator=generator(1))
                layer.weight[:2].abs_()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x.mean((2, 3)))


def deviations(model: VisionModel, x: Tensor) -> list[float]:
    """Return how much the output of each convolution varies within its channels."""
    found: list[float] = []
    handles = [
        layer.register_forward_hook(
            lambda _module, _args, y: found.append(float(y.var((0, 2, 3), unbiased=False).mean()))
        )
        for layer in model.module.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    model.logits(x)
    for handle in handles:
        handle.remove()
    return [variance**0.5 for variance in found]


def test_without_normalisation_every_layer_keeps_its_scale() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionModel(Dying())
    random = Randomised(model, images()).randomise(1.0, generator())
    # Each is scaled after those before it have been: what is left is the rounding of float32.
    assert deviations(random, images()) == pytest.approx(deviations(model, images()), rel=1e-3)
    assert len({tuple(row) for row in random.logits(images()).tolist()}) == 4


class Normalised(nn.Module):
    """Running statistics that belong to the weights, in a module that torch does not know."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), norm, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


class Frozen(nn.Module):
    """Batch normalisation with everything in buffers, as detectors have it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.full((channels,), 3.0))
        self.register_buffer("running_var", torch.full((channels,), 1e-3))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.running_var[:, None, None].rsqrt()
        return (x - self.running_mean[:, None, None]) * scale


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(6, affine=False), Frozen(6)], ids=["torch", "own"])
def test_running_statistics_become_those_of_the_random_network(norm: nn.Module) -> None:
    model = VisionModel(Normalised(norm))
    random = Randomised(model, images()).randomise(1.0, generator())
    seen: list[Tensor] = []
    random.module.get_submodule("norm").register_forward_hook(
        lambda _module, _args, y: seen.append(y)
    )
    random.logits(images())
    # By definition of normalisation; its epsilon of 1e-5 is small beside the variance.
    torch.testing.assert_close(seen[0].mean((0, 2, 3)), torch.zeros(6), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        seen[0].var((0, 2, 3), unbiased=False), torch.ones(6), rtol=1e-3, atol=0
    )


def test_a_drawn_weight_has_mean_zero_and_a_permuted_bias_keeps_its_values() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 400))
    with torch.no_grad():
        net[1].weight.fill_(2.0)
    random = Randomised(VisionModel(net), images()).randomise(1.0, generator()).module
    weight, bias = random.get_parameter("1.weight").detach(), random.get_parameter("1.bias")
    # Of 1.2 million numbers: the standard error of the mean is a thousandth of the deviation.
    assert abs(float(weight.mean() / weight.std())) < 0.005
    assert torch.equal(bias.sort().values, net[1].bias.sort().values)
    assert not torch.equal(bias, net[1].bias)


def published(name: str) -> nn.Module:
    import timm

    tokens = {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 2, "patch_size": 8}
    options = {"vit_tiny_patch16_224": tokens, "convnext_atto": {"depths": (1, 1, 1, 1)}}
    made: nn.Module = timm.create_model(name, num_classes=5, **options.get(name, {}))
    return made


@pytest.mark.parametrize(
    "name",
    ["resnet10t", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"],
)
@pytest.mark.parametrize("share", [0.0, 1 / 3, 2 / 3, 1.0])
def test_published_architectures_answer_as_variedly_as_before(name: str, share: float) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionModel(published(name).eval())
    random = Randomised(model, images()).randomise(share, generator())
    spread = [
        float(one.logits(images()).var(0, unbiased=False).mean().sqrt()) for one in (model, random)
    ]
    # The output layer comes last: what others scaled before is right by then.
    assert spread[1] == pytest.approx(spread[0], rel=1e-2)


def test_compiled_parts_are_copied_too() -> None:
    net = Backwards()
    net.middle = torch.compile(net.middle, backend="eager")
    model = VisionModel(net)
    random = Randomised(model, images()).randomise(1.0, generator())
    assert len(changed(model, random)) == 6


def test_the_place_that_was_chosen_is_kept() -> None:
    """A test on random weights might choose another one."""

    model, x = models.convolutional(), models.inputs(1)
    chosen = find_last_grid(model, x)
    random = Randomised(model, images()).randomise(1.0, generator())
    assert find_last_grid(random, x) is chosen


def test_the_same_generator_gives_the_same_network() -> None:
    model = models.tokens()
    one, two = (
        Randomised(model, images()).randomise(1.0, generator(seed)).digest() for seed in (3, 3)
    )
    assert one == two
    assert Randomised(model, images()).randomise(1.0, generator(4)).digest() != one


def test_shared_weights_stay_shared() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Flatten())
    net[1].weight = net[0].weight
    random = Randomised(VisionModel(net), images()).randomise(1.0, generator()).module
    assert random.get_parameter("0.weight") is random.get_submodule("1").weight


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_network_may_keep_tensors_with_a_graph() -> None:
    """As the older weight normalisation of torch.nn.utils does, and many a user's code."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    net[1].kept = net[1].weight * 2
    model = VisionModel(nn.utils.weight_norm(net[1]) and net)
    random = Randomised(model, images()).randomise(1.0, generator())
    assert changed(model, random) == {"1.bias", "1.weight_g", "1.weight_v"}


def test_a_network_that_can_t_be_copied_is_refused_with_the_reason() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    net[1].lock = threading.Lock()
    with pytest.raises(MethodError, match=r"Sequential can't be copied: .*lock(.|\n)*sanity"):
        Randomised(VisionModel(net), images())


def test_a_map_is_kept_though_it_can_t_be_checked() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    net(images())
    net[1].lock = threading.Lock()
    [made] = cvx.explain(VisionModel(net), images()[:1], "grad-cam", cvx.ClassScore(0), sanity=True)
    assert made.values.any()
    assert made.evidence["sanity"]["verdict"] == "unclear"
    assert "can't be copied" in made.evidence["sanity"]["reason"]


class Twofold(nn.Module):
    """Runs its layers on another image first, in a thread of its own if it is told to."""

    def __init__(self, *, aside: bool) -> None:
        super().__init__()
        self.aside = aside
        self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.second, self.head = nn.Conv2d(4, 4, 3), nn.Linear(4, 3)

    def body(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.norm(self.first(x)).relu()).mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        if self.aside:
            other = threading.Thread(target=self.body, args=(100 + 0 * x,))
            other.start()
            other.join()
        return self.body(x)


def test_what_another_thread_runs_meanwhile_is_not_measured() -> None:
    alone, together = (Twofold(aside=aside).eval() for aside in (False, True))
    together.load_state_dict(alone.state_dict())
    found, expected = (
        Randomised(VisionModel(net), images()).randomise(1.0, generator()).module.state_dict()
        for net in (together, alone)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


class Overwriting(nn.Module):
    """What a layer returned is overwritten later, and used by a layer that comes late."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.relu, self.last = nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z = self.second(self.relu(y))
        y += z
        return self.last((y * z).mean((2, 3)))


class Again(nn.Module):
    """The output layer is also the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3)
        self.last = nn.Conv2d(3, 3, 1)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x)).relu()).mean((2, 3))


@pytest.mark.parametrize("build", [Backwards, Overwriting, Again, models.convolutional])
@pytest.mark.parametrize("share", [0.0, 2 / 3, 1.0])
def test_what_is_not_run_again_changes_nothing(build: Callable[[], Any], share: float) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = build()
    model = made if isinstance(made, VisionModel) else VisionModel(made.eval())
    found, expected = (
        Randomised(model, images(), keep=keep).randomise(share, generator()).module.state_dict()
        for keep in (True, False)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


class Counting(nn.Conv2d):
    """Counts how often it is run."""

    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return super().forward(x)


@pytest.mark.parametrize(("keep", "runs"), [(True, 1), (False, 3)])
def test_layers_before_the_random_ones_are_run_once(keep: bool, runs: int) -> None:
    net = Backwards()
    net.first = Counting(3, 4, 3)
    randomised = Randomised(VisionModel(net), images(), keep=keep)
    for share in (0.0, 2 / 3):
        random = randomised.randomise(share, generator())
    assert random.module.get_submodule("first").runs == runs
    random.logits(images())
    assert random.module.get_submodule("first").runs == runs + 1


class Standardised(nn.Conv2d):
    """Its output does not depend on the scale of its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight / self.weight.norm(), self.bias)


def test_what_follows_a_layer_is_measured_as_that_answers() -> None:
    """A layer that undoes its scale gives another output than the scaled one."""
    net = nn.Sequential(Standardised(3, 4, 3), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1))
    model = VisionModel(net.append(nn.Flatten()))
    with torch.no_grad():
        net[0].weight[:, 1:] = 0
    random = Randomised(model, images()).randomise(1.0, generator())
    assert deviations(random, images())[1] == pytest.approx(
        deviations(model, images())[1], rel=1e-3
    )
