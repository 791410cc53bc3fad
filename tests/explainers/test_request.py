"""What a question offers methods that run the network many times."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from cvx_core import (
    Attribution,
    Explainer,
    ExplainRequest,
    ModelError,
    Requirements,
    VisionModel,
    explain,
)
from cvx_core.explainers import SharedRecordings
from cvx_core.testing import models


@dataclass(frozen=True)
class Twisted(Explainer):
    """Runs the network on the images turned round: 5 of them without graph, 1 with."""

    def requirements(self) -> Requirements:
        return Requirements()

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        recording = request.recording(self.requirements())
        turned = request.inputs[:1].flip(-1)
        request.logits(turned.expand(2, -1, -1, -1))
        request.logits(turned.expand(3, -1, -1, -1))
        with request.with_inputs(turned) as other:
            inner = other.recording(Requirements("input"))
            inner.gradients(torch.ones_like(inner.logits), "input")
        return [Attribution(request.inputs[:, 0]) for _ in request.seeds(recording.logits)]


def test_passes_on_other_inputs_count_for_the_explainer() -> None:
    """One forward on the image, two batches without graph, one with, and one backward."""
    model = models.convolutional()
    [one] = explain(model, models.inputs(1), Twisted())
    assert (one.evidence["forwards"], one.evidence["backwards"]) == (4, 1)


@dataclass(frozen=True)
class Asking(Explainer):
    """Hands its question out."""

    def requirements(self) -> Requirements:
        return Requirements()

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        asked.append((request.at_once, request.logits(request.inputs.flip(0))))
        recording = request.recording(self.requirements())
        return [Attribution(request.inputs[:, 0]) for _ in request.seeds(recording.logits)]


asked: list[tuple[int, torch.Tensor]] = []


def ask(model: VisionModel, count: int = 1, **options: int) -> list[tuple[int, torch.Tensor]]:
    asked.clear()
    Asking().explain(model, models.inputs(count), **options)  # type: ignore[arg-type]
    return asked


def test_the_logits_of_other_inputs_are_the_model_s_own() -> None:
    model = models.tokens()
    [(_, found)] = ask(model, 3)
    torch.testing.assert_close(found, model.logits(models.inputs(3)).flip(0))
    assert not found.requires_grad


def test_the_byte_budget_says_how_many_run_at_once() -> None:
    """One image where it has room for less; on a processor never more than 16."""
    model = models.convolutional()
    assert [most for most, _ in ask(model, budget=1)] == [1]
    assert [most for most, _ in ask(model)] == [16]


@dataclass(frozen=True)
class Behind(Explainer):
    """Tells how many values at each of two layers run together."""

    def requirements(self) -> Requirements:
        return Requirements()

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        places = [request.layout.find(name) for name in ("0", "2")]
        rows.append([request.at_once_behind(place) for place in places])
        recording = request.recording(self.requirements())
        return [Attribution(request.inputs[:, 0]) for _ in request.seeds(recording.logits)]


rows: list[list[int]] = []


def test_behind_a_late_layer_more_run_at_once_in_proportion_to_what_is_left() -> None:
    """Layers of 4096, 1024 and 64 numbers: 5184 in all, 64 of them behind the last's beginning."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(4, 1, 2, stride=2),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 2),
    )
    rows.clear()
    for budget in (1, None):
        Behind().explain(VisionModel(net), models.inputs(1), budget=budget)
    assert rows == [[1, 5184 // 64], [16, 256]], "one for the budget, and 256 at most"


class Narrow(torch.nn.Module):
    """Has memory for one image at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.alone = models.convolutional().module, False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1 and self.alone:
            raise torch.OutOfMemoryError("out of memory")
        return self.inner(x)


def test_where_memory_runs_out_the_inputs_are_halved() -> None:
    model = VisionModel(Narrow())
    expected = model.logits(models.inputs(3))

    @dataclass(frozen=True)
    class Wide(Asking):
        def attribute(self, request: ExplainRequest) -> list[Attribution]:
            recording = request.recording(self.requirements())
            seeds = request.seeds(recording.logits)
            model.module.alone = True
            found.append(request.logits(models.inputs(3)))
            model.module.alone = False
            return [Attribution(request.inputs[:, 0]) for _ in seeds]

    found: list[torch.Tensor] = []
    Wide().explain(model, models.inputs(1))
    torch.testing.assert_close(found[0], expected)


class Choosy(torch.nn.Module):
    """Fails on dark images."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.mean() < 0:
            raise RuntimeError("too dark")
        return self.head(x.mean((2, 3)))


def test_a_network_that_fails_on_other_inputs_is_named() -> None:
    @dataclass(frozen=True)
    class Dark(Asking):
        def attribute(self, request: ExplainRequest) -> list[Attribution]:
            request.logits(-request.inputs)
            return []

    with pytest.raises(ModelError, match=r"Choosy failed .* too dark"):
        Dark().explain(VisionModel(Choosy()), models.inputs(1))


def test_without_a_seed_random_numbers_are_those_of_seed_0() -> None:
    request = ExplainRequest(SharedRecordings(models.convolutional(), models.inputs(1), []), [])
    expected = torch.rand(3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.rand(3, generator=request.generator()), expected)
