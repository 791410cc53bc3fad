"""The recording's promises: exact gradients, the smallest graph, and a model left as found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cvx_location_attention.receptive_field.second_order import Twice
from torch import Tensor

from cvx_core.errors import LayerError, MethodError, ModelError
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.conservation import relevance
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.testing import models

Build = Callable[[Callable[[], Any]], Any]


def images(count: int = 2, size: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, size, size, generator=generator, dtype=dtype)


def maps(model: VisionModel, x: Tensor, *places: str, gates: Any = "native") -> list[Tensor]:
    with open_recording(model, x, Requirements(*places, gates=gates)) as recording:
        return recording.gradients(torch.ones_like(recording.logits), *places)


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
    with open_recording(model, x.detach(), Requirements("input", "two")) as recording:
        found = recording.gradients(seed, "input", "two")
    # The same kernels in the same order: a few roundings of float64.
    torch.testing.assert_close(found, list(expected), rtol=1e-12, atol=1e-14)


def test_the_gradient_is_what_finite_differences_say(model: VisionModel) -> None:
    x, seed = images(1), torch.tensor([[0.0, 1, 0, 0, 0]], dtype=torch.float64)
    with open_recording(model, x, Requirements("input")) as recording:
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
    with open_recording(model, images(), Requirements(place, gates=gates)) as recording:
        [leaf] = leaves(recording.logits)
        assert leaf.shape == recording.raw(place).shape
        assert not any(leaf is parameter for parameter in model.module.parameters())
        names = [node.name() for node in graph(recording.logits)]
    assert sum("Convolution" in name for name in names) == convolutions


def test_an_input_that_requires_a_gradient_stays_outside_the_graph(model: VisionModel) -> None:
    x = images().requires_grad_()
    with open_recording(model, x, Requirements("two")) as recording:
        assert len(leaves(recording.logits)) == 1
        recording.gradients(torch.ones_like(recording.logits), "two")
    with open_recording(model, x, Requirements()) as recording:
        assert not recording.logits.requires_grad
    assert x.grad is None


def test_after_leaving_nothing_holds_the_graph(model: VisionModel) -> None:
    with open_recording(model, images(), Requirements("input")) as recording:
        assert recording.logits.requires_grad
    assert not recording.logits.requires_grad
    with pytest.raises(MethodError, match="The recording is closed"):
        recording.raw("input")


def test_asking_for_a_place_that_was_not_recorded_names_those_that_were(
    model: VisionModel,
) -> None:
    with open_recording(model, images(), Requirements("two")) as recording:
        with pytest.raises(LayerError, match=r"'one' was not recorded"):
            recording.raw("one")
        with pytest.raises(MethodError, match="Nothing to replay"):
            recording.replay("two", recording.raw("two"))


@pytest.mark.parametrize("gates", ["native", "frozen", Twice()])
def test_relevance_without_rules_for_it_is_refused_in_words(model: VisionModel, gates: Any) -> None:
    with open_recording(model, images(), Requirements("two", gates=gates)) as recording:
        with pytest.raises(MethodError, match="has no rules of relevance") as caught:
            relevance(recording, torch.ones_like(recording.logits), "two")
        assert "Propagation" in caught.value.hint


def test_several_seeds_and_places_cost_one_forward(model: VisionModel) -> None:
    with open_recording(model, images(), Requirements("one", "two")) as recording:
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
    with open_recording(model, images(1), Requirements("one", "two")) as recording:
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
    with open_recording(model, images(), Requirements("relu#0", "relu#1", "relu")) as recording:
        first, second = recording.raw("relu#0"), recording.raw("relu#1")
        assert torch.equal(recording.raw("relu"), second)
        net = model.module
        with torch.no_grad():
            expected = torch.relu(net.norm(net.one(images())))
            assert torch.equal(first, expected)
            assert torch.equal(second, torch.relu(net.two(expected)))


def test_activations_are_kept_as_they_were_before_in_place_work(model: VisionModel) -> None:
    with open_recording(model, images(), Requirements("two")) as recording:
        assert float(recording.raw("two").min()) < 0, "the in-place ReLU came first"


CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "enable_grad": torch.enable_grad,
}


@pytest.mark.parametrize("gates", ["native", "frozen"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_caller_s_context_does_not_matter(
    model: VisionModel, seeded: Build, context: str, gates: Any
) -> None:
    """Also where the network is met for the first time inside it, with inputs made inside it."""
    build = type(model.module)
    expected = maps(model, images(), "input", "auto", gates=gates)
    with CONTEXTS[context]():
        found = maps(VisionModel(seeded(build).double()), images(), "input", "auto", gates=gates)
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


def test_a_module_that_fails_is_named_with_the_input_it_got(model: VisionModel) -> None:
    message = r"Plain failed on an input of shape \(2, 5, 8, 8\)"
    with (
        pytest.raises(ModelError, match=message),
        open_recording(model, wrong(), Requirements("input")),
    ):
        pass


def wrong() -> Tensor:
    return torch.zeros(2, 5, 8, 8, dtype=torch.float64)
