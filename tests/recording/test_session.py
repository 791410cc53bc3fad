"""The recording's promises: exact gradients, the smallest graph, and a model left as found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cvx_core.errors import LayerError, MethodError, ModelError
from cvx_core.recording import Needs, Recording
from cvx_core.testing import models
from cvx_core.vision_model import VisionModel

Build = Callable[[Callable[[], Any]], Any]


class Plain(nn.Module):
    """Convolutions with a ReLU that is used twice, in place, and normalisation by batch."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.one(x)))
        x = self.relu(self.two(x))
        return self.head(self.dropout(x.mean((2, 3))))


def images(count: int = 2, size: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, size, size, generator=generator, dtype=dtype)


def maps(model: VisionModel, x: Tensor, *places: str, gates: Any = "native") -> list[Tensor]:
    with Recording(model, x, Needs(*places, gates=gates)) as recording:
        return recording.gradients(torch.ones_like(recording.logits), *places)


@pytest.fixture
def model(seeded: Build) -> VisionModel:
    return VisionModel(seeded(Plain).double())


def test_native_gradients_are_those_of_autograd(model: VisionModel) -> None:
    x = images().requires_grad_()
    seed = torch.tensor([[1.0, -2, 0, 0, 3], [0, 0, 1, -1, 0.5]], dtype=torch.float64)
    kept: dict[str, Tensor] = {}
    # The ReLU works in place: what the convolution gave is gone unless it is copied here.
    handle = model.module.two.register_forward_hook(
        lambda module, args, out: kept.setdefault("two", out).clone()
    )
    expected = torch.autograd.grad((model.module(x) * seed).sum(), [x, kept["two"]])
    handle.remove()
    with Recording(model, x.detach(), Needs("input", "two")) as recording:
        found = recording.gradients(seed, "input", "two")
    # The same kernels in the same order: a few roundings of float64.
    torch.testing.assert_close(found, list(expected), rtol=1e-12, atol=1e-14)


def test_the_gradient_is_what_finite_differences_say(model: VisionModel) -> None:
    x, seed = images(1), torch.tensor([[0.0, 1, 0, 0, 0]], dtype=torch.float64)
    with Recording(model, x, Needs("input")) as recording:
        [gradient] = recording.gradients(seed, "input")
    step = 1e-6
    for index in [(0, 0, 0, 0), (0, 1, 4, 5), (0, 2, 7, 3)]:
        moved = x.clone()
        moved[index] += step
        back = x.clone()
        back[index] -= step
        slope = ((model.logits(moved) - model.logits(back)) * seed).sum() / (2 * step)
        # Rounding of logits near 1 over a step of 1e-6: about 1e-10.
        assert float(gradient[index]) == pytest.approx(float(slope), abs=1e-8)


def graph(logits: Tensor) -> Iterator[Any]:
    """All nodes of a graph, each once."""
    seen, waiting = set(), [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [parent for parent, _ in node.next_functions]


def leaves(logits: Tensor) -> list[Tensor]:
    return [node.variable for node in graph(logits) if hasattr(node, "variable")]


@pytest.mark.parametrize("gates", ["native", "frozen"])
@pytest.mark.parametrize(("place", "convolutions"), [("input", 2), ("one", 1), ("two", 0)])
def test_the_graph_begins_at_the_place_and_holds_no_parameter(
    model: VisionModel, place: str, convolutions: int, gates: Any
) -> None:
    with Recording(model, images(), Needs(place, gates=gates)) as recording:
        [leaf] = leaves(recording.logits)
        assert leaf.shape == recording.raw(place).shape
        assert not any(leaf is parameter for parameter in model.module.parameters())
        names = [node.name() for node in graph(recording.logits)]
    assert sum("Convolution" in name for name in names) == convolutions


def test_an_input_that_requires_a_gradient_stays_outside_the_graph(model: VisionModel) -> None:
    x = images().requires_grad_()
    with Recording(model, x, Needs("two")) as recording:
        assert len(leaves(recording.logits)) == 1
        recording.gradients(torch.ones_like(recording.logits), "two")
    with Recording(model, x, Needs()) as recording:
        assert not recording.logits.requires_grad
    assert x.grad is None


def test_after_leaving_nothing_holds_the_graph(model: VisionModel) -> None:
    with Recording(model, images(), Needs("input")) as recording:
        assert recording.logits.requires_grad
    assert not recording.logits.requires_grad
    with pytest.raises(MethodError, match="The recording is over"):
        recording.raw("input")


def test_asking_for_a_place_that_was_not_recorded_names_those_that_were(
    model: VisionModel,
) -> None:
    with Recording(model, images(), Needs("two")) as recording:
        with pytest.raises(LayerError, match=r"'one' was not recorded"):
            recording.raw("one")
        with pytest.raises(MethodError, match="Nothing to replay"):
            recording.replay("two", recording.raw("two"))


def test_several_seeds_and_places_cost_one_forward(model: VisionModel) -> None:
    with Recording(model, images(), Needs("one", "two")) as recording:
        eye = torch.eye(5, dtype=torch.float64)
        each = [recording.gradients(row.expand(2, -1), "one", "two") for row in eye]
        together = recording.gradients(torch.ones(2, 5), "one", "two")
        assert (recording.forwards, recording.backwards) == (1, 6)
    for k in range(2):
        torch.testing.assert_close(sum(one[k] for one in each), together[k])


def test_pulling_a_vector_back_is_the_transpose_of_pushing_one_forward(
    model: VisionModel,
) -> None:
    """<v, J u> = <J^T v, u>, with J u from finite differences between the two layers."""
    with Recording(model, images(1), Needs("one", "two")) as recording:
        start, out = recording.raw("one"), recording.raw("two")
        u, v = torch.randn_like(start), torch.randn_like(out)
        pulled = recording.pull(v, at="two", to="one")
        assert float(recording.pull(torch.ones_like(start), at="one", to="two").abs().sum()) == 0
    net, step = model.module, 1e-6

    def onward(a: Tensor) -> Tensor:
        return net.two(torch.relu(net.norm(a)))

    with torch.no_grad():
        pushed = (onward(start + step * u) - onward(start - step * u)) / (2 * step)
    assert float((v * pushed).sum()) == pytest.approx(float((pulled * u).sum()), abs=1e-6)


def test_the_k_th_call_of_a_reused_module_is_recorded_by_number(model: VisionModel) -> None:
    with Recording(model, images(), Needs("relu#0", "relu#1", "relu")) as recording:
        first, second = recording.raw("relu#0"), recording.raw("relu#1")
        assert torch.equal(recording.raw("relu"), second)
        net = model.module
        with torch.no_grad():
            expected = torch.relu(net.norm(net.one(images())))
            assert torch.equal(first, expected)
            assert torch.equal(second, torch.relu(net.two(expected)))


def test_activations_are_kept_as_they_were_before_in_place_work(model: VisionModel) -> None:
    with Recording(model, images(), Needs("two")) as recording:
        assert float(recording.raw("two").min()) < 0, "the in-place ReLU came first"


CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "enable_grad": torch.enable_grad,
}


@pytest.mark.parametrize("gates", ["native", "frozen"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_caller_s_context_does_not_matter(seeded: Build, context: str, gates: Any) -> None:
    """Also where the network is met for the first time inside it, with inputs made inside it."""
    expected = maps(VisionModel(seeded(Plain).double()), images(), "input", "auto", gates=gates)
    with CONTEXTS[context]():
        found = maps(VisionModel(seeded(Plain).double()), images(), "input", "auto", gates=gates)
        assert torch.is_inference_mode_enabled() == (context == "inference_mode")
    torch.testing.assert_close(found, expected)


def test_parameters_frozen_or_not_do_not_matter(model: VisionModel) -> None:
    expected = maps(model, images(), "input")
    model.module.requires_grad_(False)
    torch.testing.assert_close(maps(model, images(), "input"), expected)


def test_a_network_in_training_mode_is_recorded_in_evaluation_mode(model: VisionModel) -> None:
    expected = maps(model, images(), "input")
    model.module.train()
    model.module.head.eval()
    running = model.module.norm.running_mean.clone()
    torch.testing.assert_close(maps(model, images(), "input"), expected)
    modes = {name: m.training for name, m in model.module.named_modules()}
    assert modes.pop("head") is False
    assert all(modes.values())
    assert torch.equal(model.module.norm.running_mean, running)


def test_channels_last_memory_does_not_matter(model: VisionModel) -> None:
    expected = maps(model, images(), "input", "two")
    model.module.to(memory_format=torch.channels_last)
    x = images().to(memory_format=torch.channels_last)
    torch.testing.assert_close(maps(model, x, "input", "two"), expected)


@pytest.mark.parametrize("gates", ["native", "frozen"])
def test_bfloat16_gives_the_map_of_float64_to_its_precision(seeded: Build, gates: Any) -> None:
    net = seeded(models.Tokens)
    exact = maps(VisionModel(net.double()), models.inputs().double(), "input", gates=gates)[0]
    [rough] = maps(VisionModel(net.bfloat16()), models.inputs().bfloat16(), "input", gates=gates)
    assert rough.dtype == torch.bfloat16
    # 8 bits of mantissa through two blocks: the direction stays.
    assert float(F.cosine_similarity(exact.flatten(), rough.double().flatten(), 0)) > 0.99


@pytest.mark.parametrize("gates", ["native", "frozen"])
def test_the_caller_s_autocast_gives_the_map_to_its_precision(seeded: Build, gates: Any) -> None:
    model = VisionModel(seeded(models.Tokens))
    [exact] = maps(model, models.inputs(), "input", gates=gates)
    with torch.autocast("cpu", torch.bfloat16):
        [rough] = maps(model, models.inputs(), "input", gates=gates)
    assert float(F.cosine_similarity(exact.flatten(), rough.flatten(), 0)) > 0.99


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


class Answer(dict[str, Any]):
    """A mapping whose keys are attributes too, as the outputs of transformers."""

    __getattr__ = dict.__getitem__


class Wrapping(nn.Module):
    """A block whose output is wrapped in something."""

    def __init__(self, wrap: Callable[[Tensor], Any], unwrap: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.block, self.head = _Wrapped(wrap), nn.Linear(4, 3)
        self.unwrap = unwrap

    def forward(self, x: Tensor) -> Any:
        return Answer(logits=self.head(self.unwrap(self.block(x)).mean((2, 3))), hidden=None)


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
        (lambda x: Answer(map=x), lambda y: y.map),
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
    with Recording(model, images(), Needs("block")) as recording:
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
    needs = [("input",), ("relu#0",), ("two",), ("input", "two")]

    def one(i: int) -> list[Tensor]:
        return maps(model, batches[i], *needs[i % 4], gates=("native", "frozen")[i // 4 % 2])

    serial = [one(i) for i in range(16)]
    fresh = VisionModel(model.module)
    model.cache.clear()
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


def test_reentrant_checkpointing_works_or_is_refused_in_words(seeded: Build) -> None:
    """PyTorch's reentrant checkpointing forbids torch.autograd.grad, with which maps are made."""
    model = VisionModel(seeded(lambda: Checkpointed(True).double()))
    with pytest.raises(MethodError, match="use_reentrant=False"):
        maps(model, images(), "stem")


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


def test_a_module_that_fails_is_named_with_the_input_it_got(model: VisionModel) -> None:
    message = r"Plain failed on an input of shape \(2, 5, 8, 8\)"
    with pytest.raises(ModelError, match=message), Recording(model, wrong(), Needs("input")):
        pass


def wrong() -> Tensor:
    return torch.zeros(2, 5, 8, 8, dtype=torch.float64)
