"""Running explainers on images: order, shared passes, budgets, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvx_core import Attribution, Explainer, ExplainRequest, Requirements
from cvx_core.errors import MethodError, ModelError, PluginError, UsageError
from cvx_core.explainers.runner import run
from cvx_core.explanations.explanation import Explanation
from cvx_core.models.network_facts import Versions, weight_versions
from cvx_core.models.vision_model import VisionModel
from cvx_core.tasks.targets import ClassScore, Contrast, Error, Margin, Predicted
from cvx_core.testing import models


@dataclass(frozen=True)
class InputXGradient(Explainer):
    """x * d<s, z>/dx, summed over channels."""

    layer: str = "input"

    def requirements(self) -> Requirements:
        return Requirements(self.layer)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        recording = request.recording(self.requirements())
        raw = recording.activation(self.layer)
        return [
            Attribution((raw * recording.gradient(seed, self.layer)).sum(1))
            for seed in request.seeds(recording.logits)
        ]


@dataclass(frozen=True)
class Frozen(InputXGradient):
    """The same with frozen gates."""

    def requirements(self) -> Requirements:
        return Requirements(self.layer, gates="frozen")


class Counting(nn.Module):
    """Logits (sum, 2 sum, 3 sum) of the pixels; remembers how many images came at once."""

    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.room, self.batches = room, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("simulated")
        return x.sum((1, 2, 3))[:, None] * self.scale


def counting(room: int = 1000) -> tuple[VisionModel, Counting]:
    net = Counting(room)
    model = VisionModel(net)
    return model, net


def images(count: int, side: int = 4) -> Tensor:
    return torch.arange(1.0, count + 1)[:, None, None, None].expand(count, 3, side, side) / 100


def test_explanations_come_by_image_then_explainer_then_target() -> None:
    model, _ = counting()
    targets = [[ClassScore(0), ClassScore(1)], [ClassScore(2)]]
    found = run(model, images(2), [InputXGradient(), Frozen()], targets)
    order = [(one.name, one.method, one.target.classes[0].index) for one in found]
    assert order == [
        ("tensor 0", "input-x-gradient", 0),
        ("tensor 0", "input-x-gradient", 1),
        ("tensor 0", "frozen", 0),
        ("tensor 0", "frozen", 1),
        ("tensor 1", "input-x-gradient", 2),
        ("tensor 1", "frozen", 2),
    ]
    # Three channels of 0.01 times class c's weight c + 1, and of 0.02 in the second image.
    assert [float(one.values[0, 0]) for one in found] == pytest.approx(
        [0.03, 0.06, 0.03, 0.06, 0.18, 0.18]
    )


def test_targets_of_one_image_share_one_forward_pass() -> None:
    model, net = counting()
    run(model, images(1), [InputXGradient()])
    net.batches.clear()
    found = run(model, images(1), [InputXGradient()], [[ClassScore(c) for c in range(3)]])
    assert net.batches == [1]
    assert [one.evidence["forwards"] for one in found] == [1, 1, 1]
    assert [one.evidence["backwards"] for one in found] == [3, 3, 3]


def test_explainers_share_one_forward_pass_for_each_kind_of_gates() -> None:
    model, net = counting()
    explainers = [InputXGradient(), Frozen(), InputXGradient(), Frozen()]
    run(model, images(2), explainers)
    net.batches.clear()
    found = run(model, images(2), explainers)
    assert net.batches == [2, 2]
    assert [one.evidence["forwards"] for one in found[:4]] == [1, 1, 0, 0]


def test_explainers_at_different_layers_share_one_forward_pass() -> None:
    model = models.convolutional()
    both = [InputXGradient("third"), InputXGradient("input")]
    found = run(model, models.inputs(1), both)
    assert [one.evidence["forwards"] for one in found] == [1, 0]
    for one, explainer in zip(found, both, strict=True):
        [alone] = explainer.explain(model, models.inputs(1))
        np.testing.assert_allclose(one.values, alone.values, rtol=1e-5, atol=1e-7)


def test_images_of_different_shapes_are_answered_in_order() -> None:
    model, net = counting()
    sides = [4, 4, 6, 4, 6, 6]
    batch = [images(6, side)[i] for i, side in enumerate(sides)]
    found = run(model, batch, [InputXGradient()], ClassScore(0))
    assert [one.values.shape[0] for one in found] == sides
    assert [float(one.values[0, 0]) for one in found] == pytest.approx(
        [0.03 * (i + 1) for i in range(6)]
    )
    net.batches.clear()
    run(model, batch, [InputXGradient()], ClassScore(0))
    assert net.batches == [2, 1, 1, 2], "neighbours of one shape are run together"


@pytest.mark.parametrize("budget", [1, 20_000, 10**9])
def test_a_byte_budget_changes_how_many_run_together_and_no_map(budget: int) -> None:
    model, x = models.convolutional(), models.inputs(7)
    expected = run(model, x, [InputXGradient(), Frozen("third")])
    found = run(model, x, [InputXGradient(), Frozen("third")], budget=budget)
    assert [one.name for one in found] == [one.name for one in expected]
    for one, other in zip(expected, found, strict=True):
        # float32, and kernels that are chosen by the batch's size.
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4, atol=1e-6)
    assert found[0].evidence["batch"] == {1: 1, 10**9: 7}.get(budget, found[0].evidence["batch"])


def test_a_small_budget_splits_a_batch() -> None:
    model, net = counting()
    run(model, images(5), [InputXGradient()], budget=1)
    net.batches.clear()
    found = run(model, images(5), [InputXGradient()], budget=1)
    assert net.batches == [1] * 5
    assert [one.evidence["batch"] for one in found] == [1] * 5


def test_running_out_of_memory_halves_the_batch_and_tries_again() -> None:
    model, net = counting(room=2)
    found = run(model, images(7), [InputXGradient()], ClassScore(1))
    assert [float(one.values[0, 0]) for one in found] == pytest.approx(
        [0.06 * (i + 1) for i in range(7)]
    )
    net.batches.clear()
    run(model, images(7), [InputXGradient()], ClassScore(1))
    # 7 and 3 are too many; from then on it is one at a time, and nothing is run twice.
    assert net.batches == [7, 3, 1, 1, 1, 1, 1, 1, 1]


def test_an_image_that_is_too_large_alone_is_an_out_of_memory_error() -> None:
    model, net = counting()
    run(model, images(1), [InputXGradient()])
    net.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        run(model, images(3), [InputXGradient()])


@pytest.mark.parametrize("count", [1, 3])
def test_a_network_met_for_the_first_time_under_inference_mode(count: int) -> None:
    expected = run(models.convolutional(), models.inputs(count), [InputXGradient(), Frozen()])
    with torch.inference_mode():
        found = run(models.convolutional(), models.inputs(count), [InputXGradient(), Frozen()])
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"target": [Predicted()] * 2}, "There are 3 images and 2 targets"),
        ({"label": [0, 1]}, "There are 3 images and 2 labels"),
        ({"label": [0] * 4}, "There are 3 images and 4 labels"),
        ({"target": "tabby"}, "'tabby' can't be found"),
        ({"target": 3}, "no class 3: the model has 3 classes"),
        ({"target": 0.5}, "must be a class name, an index or a Target, got float 0.5"),
        ({"target": True}, "must be a class name, an index or a Target, got bool True"),
        ({"target": [[], [Predicted()], [Predicted()]]}, "an empty list"),
        ({"target": [1, [2, [0]], 0]}, "must be a class name, an index or a Target, got list"),
        ({"target": {"cat.jpg": 1}}, "a target for 'cat.jpg', which is not among the images"),
        ({"label": {"image 7": 1}}, "a label for 'image 7', which is not among the images"),
        ({"target": Margin()}, "label"),
        ({"target": Error(), "label": [1, None, 0]}, "label"),
        ({"target": ClassScore(9)}, "9"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_numbers(asked: Any, message: str) -> None:
    model, _ = counting()
    with pytest.raises(UsageError, match=message) as caught:
        run(model, images(3), [InputXGradient()], **asked)
    assert caught.value.hint


def test_no_images_are_refused() -> None:
    model, _ = counting()
    with pytest.raises(UsageError, match="no images"):
        run(model, [], [InputXGradient()])


def test_the_weights_are_told_apart_by_their_digest() -> None:
    """The SHA-256 of name, dtype, shape and bytes, worked out here for the one parameter."""
    model, net = counting()

    def digest() -> str:
        [one] = run(model, images(1), [InputXGradient()])
        return str(one.provenance["weights_sha256"])

    numbers = np.array([1, 2, 3], np.float32).tobytes()
    by_hand = hashlib.sha256(b"scale torch.float32 (3,)" + numbers).hexdigest()[:16]
    assert digest() == by_hand
    with torch.no_grad():
        net.scale[0] = 5
    assert digest() != by_hand
    with torch.no_grad():
        net.scale[0] = 1
    assert digest() == by_hand


def test_weights_are_looked_at_once_for_each_explainer(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = counting()
    looked = list[nn.Module]()

    def look(module: nn.Module) -> Versions:
        looked.append(module)
        return weight_versions(module)

    monkeypatch.setattr("cvx_core.models.vision_model.weight_versions", look)
    run(model, images(1), [InputXGradient(), Frozen()], [[ClassScore(c) for c in range(3)]])
    assert len(looked) == 2


def test_labels_are_per_image_and_may_be_unknown() -> None:
    model, _ = counting()
    found = run(model, images(3), [InputXGradient()], Predicted(), [0, None, 2])
    assert [one.target.correct for one in found] == [False, None, True]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_answer_that_is_not_finite_is_refused_and_names_the_way_out(value: float) -> None:
    model, net = counting()
    run(model, images(1), [InputXGradient()])
    with torch.no_grad():
        net.scale[1] = value
    with pytest.raises(ModelError, match=r"(?s)not finite.*bfloat16"):
        run(model, images(1), [InputXGradient()])


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        (torch.float16, r"(?s)overflows in float16.*--dtype float32"),
        (torch.bfloat16, r"(?s)overflows in bfloat16.*--dtype float32"),
        (torch.float32, r"(?s)not finite\..*nan, inf or very large"),
    ],
)
def test_a_map_that_overflows_is_a_usage_error_with_the_way_out(
    dtype: torch.dtype, message: str
) -> None:
    model, _ = counting()
    explainer = returning(lambda x: [(x[:, 0] + torch.finfo(x.dtype).max) * 2])
    with pytest.raises(MethodError, match=message) as caught:
        run(model.to(dtype=dtype), images(1), [explainer])
    assert caught.value.exit_code == 2


def returning(values: Callable[[Tensor], list[Tensor]]) -> Explainer:
    class Own(Explainer):
        def requirements(self) -> Requirements:
            return Requirements("input")

        def attribute(self, request: ExplainRequest) -> list[Attribution]:
            return [Attribution(v) for v in values(request.inputs)]

    return Own()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda x: [], "0 attributions for 1 seeds"),
        (lambda x: [x[:, 0], x[:, 0]], "2 attributions for 1 seeds"),
        (lambda x: [x], r"shape \(2, 3, 4, 4\) for 2 images"),
        (lambda x: [x[:1, 0]], r"shape \(1, 4, 4\) for 2 images"),
    ],
)
def test_an_explainer_that_breaks_its_contract_is_named(values: Any, message: str) -> None:
    model, _ = counting()
    with pytest.raises(MethodError, match=message):
        run(model, images(2), [returning(values)])


def test_evidence_and_provenance_are_given_to_each_image_its_own() -> None:
    class Own(Explainer):
        def requirements(self) -> Requirements:
            return Requirements("input")

        def attribute(self, request: ExplainRequest) -> list[Attribution]:
            count = len(request.inputs)
            numbers = torch.arange(count, dtype=torch.float64)
            return [
                Attribution(
                    request.inputs[:, 0] * 0 + 1,
                    {"number": numbers, "shared": "all", "pair": torch.zeros(count, 2).tolist()},
                    {"where": numbers * 10},
                    unit="ones",
                )
            ]

    model, _ = counting()
    found = run(model, images(3), [Own()])
    assert [one.evidence["number"] for one in found] == [0, 1, 2]
    assert [one.provenance["where"] for one in found] == [0, 10, 20]
    assert {one.evidence["shared"] for one in found} == {"all"}
    assert {one.unit for one in found} == {"ones"}
    assert [one.evidence["sum"] for one in found] == [16, 16, 16]


def test_a_map_that_is_the_same_for_every_class_says_so() -> None:
    class Energy(InputXGradient):
        class_specific = False

    model, _ = counting()
    [one] = run(model, images(1), [Energy()], ClassScore(1))
    assert "does not depend on the target" in one.target.note
    assert one.evidence["class_specific"] is False


def test_the_model_s_default_target_is_the_explainer_s() -> None:
    class Contrasting(InputXGradient):
        default_target = Contrast(2, 0)

    model, _ = counting()
    both = run(model, images(1), [InputXGradient(), Contrasting()])
    assert [one.target.kind for one in both] == ["predicted", "contrast"]
    # Three channels of 0.01, weights 3 and 3 - 1.
    assert [float(one.values[0, 0]) for one in both] == pytest.approx([0.09, 0.06])


def test_an_explanation_is_made_of_numbers_and_no_tensors() -> None:
    model, _ = counting()
    [one] = run(model, images(1), [InputXGradient()])
    assert isinstance(one, Explanation)
    assert one.values.dtype == np.float32
    assert not any(isinstance(v, Tensor) for v in one.evidence.values())


@dataclass(frozen=True)
class Careless(Explainer):
    """Works in place on what it was lent."""

    what: str

    def requirements(self) -> Requirements:
        return Requirements("input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        recording = request.recording(self.requirements())
        lent = request.inputs if self.what == "inputs" else recording.raw("input")
        lent.mul_(0)
        return [Attribution(lent.sum(1)) for _ in request.seeds(recording.logits)]


@pytest.mark.parametrize("what", ["inputs", "activation"])
def test_an_explainer_that_changes_what_is_shared_is_named_and_stopped(what: str) -> None:
    model, _ = counting()
    with pytest.raises(PluginError, match="careless changed"):
        run(model, images(1), [Careless(what), InputXGradient()])


@dataclass(frozen=True)
class Spectral(InputXGradient):
    """Gives evidence that is neither one number for each image nor plain."""

    inside: bool = False

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        numbers = torch.arange(7.0)
        spectrum = [{"band": "low", "power": numbers}] if self.inside else numbers
        return [
            Attribution(one.values, {"spectrum": spectrum}) for one in super().attribute(request)
        ]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_tensor_of_evidence_holds_one_value_for_each_image(count: int) -> None:
    model, _ = counting()
    if count == 7:
        found = run(model, images(count), [Spectral()])
        assert [one.evidence["spectrum"] for one in found] == [0, 1, 2, 3, 4, 5, 6]
        return
    with pytest.raises(MethodError, match=r"'spectrum' as a tensor of shape \(7,\)"):
        run(model, images(count), [Spectral()])


@pytest.mark.parametrize("count", [2, 7])
def test_so_does_one_inside_a_list_of_records(count: int) -> None:
    model, _ = counting()
    if count == 7:
        found = run(model, images(count), [Spectral(inside=True)])
        assert found[3].evidence["spectrum"] == ({"band": "low", "power": 3.0},)
        return
    with pytest.raises(MethodError, match=r"'spectrum' as a tensor of shape \(7,\)"):
        run(model, images(count), [Spectral(inside=True)])
