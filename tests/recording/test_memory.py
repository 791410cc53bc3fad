"""How many bytes recordings keep alive, against a count by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from cvx_core import Attribution, Explainer, ExplainRequest, explain, smooth
from cvx_core.explainers.batching import kept_memory
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.testing import models

PIXELS, CELLS, LOGITS = 3 * 8 * 8, 4 * 8 * 8, 5
FLOAT = 4


def two_layers() -> VisionModel:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5))
    return VisionModel(net)


def images(batch: int = 1) -> torch.Tensor:
    return torch.linspace(-1, 1, batch * PIXELS).reshape(batch, 3, 8, 8)


def held(model: VisionModel, x: torch.Tensor, requirements: Requirements) -> int:
    with open_recording(model, x, requirements) as recording:
        recording.gradients(torch.ones_like(recording.logits), *requirements.layers)
        return sum(kept_memory(recording).values())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("places", "numbers"),
    [
        ([], LOGITS),
        # ReLU's result, which the linear layer reads too: one piece of memory.
        (["1"], CELLS + LOGITS),
        # ReLU keeps what it returned, not what it was given.
        (["0"], CELLS + CELLS + LOGITS),
        # The convolution keeps the copy that it was given. The weights it keeps are the model's.
        (["input"], PIXELS + PIXELS + CELLS + LOGITS),
    ],
    ids=["nowhere", "behind", "between", "input"],
)
def test_the_bytes_of_two_layers_are_those_counted_by_hand(
    places: list[str], numbers: int, batch: int
) -> None:
    assert held(two_layers(), images(batch), Requirements(*places)) == FLOAT * numbers * batch


def test_the_choices_of_a_relu_on_the_tape_take_a_byte_each() -> None:
    frozen = Requirements("0", gates="frozen")
    taped = Requirements("0", gates="frozen", tape=True)
    both = [held(two_layers(), images(), requirements) for requirements in (frozen, taped)]
    assert both == [FLOAT * (CELLS + CELLS + LOGITS), FLOAT * (CELLS + CELLS + LOGITS) + CELLS]


@pytest.mark.parametrize("build", [models.convolutional, models.tokens])
def test_later_places_hold_less_and_more_images_more(build: Callable[[], VisionModel]) -> None:
    model = build()
    early = [held(model, models.inputs(count), Requirements("input")) for count in (1, 2)]
    late = [held(model, models.inputs(count), Requirements("auto")) for count in (1, 2)]
    assert 0 < late[0] < early[0]
    # Every activation grows with the batch; what a class token or a position adds does not.
    assert early[0] < early[1] <= 2 * early[0]
    assert late[0] < late[1] <= 2 * late[0]


@dataclass(frozen=True)
class Gradient(Explainer):
    """The gradient at a layer."""

    layer: str = "input"

    def requirements(self) -> Requirements:
        return Requirements(self.layer)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        recording = request.recording(self.requirements())
        return [
            Attribution(recording.gradient(seed, self.layer).sum(1))
            for seed in request.seeds(recording.logits)
        ]


def test_the_evidence_of_a_map_has_the_bytes_of_its_recordings() -> None:
    alone = FLOAT * 2 * (PIXELS + PIXELS + CELLS + LOGITS)
    explainers = [Gradient(), Gradient(), smooth(Gradient(), n=3)]
    one, shared, smoothed = explain(two_layers(), images(2), explainers)[:3]
    assert one.evidence["bytes"] == alone
    assert shared.evidence["bytes"] == alone, "who shares a recording needs it as much"
    # Its noisy copies are recorded one after the other, beside the images themselves.
    assert smoothed.evidence["bytes"] == 2 * alone
