"""Where there is no answer: a residual that is reported, or an error that names the way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core.errors import LayerError, MethodError
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.conservation import constant_part
from cvx_core.recording.interception.autograd import without_gradient
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.recording.saved_tensors import SavedTensors, Tape

IMAGES = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).double() + 0.5
UNCOVERED: dict[str, Callable[[Tensor], Tensor]] = {
    "cumprod": lambda x: torch.cumprod(x, 2),
    "prod": lambda x: x.prod(2),
    "cdist": lambda x: torch.cdist(x.flatten(2), x.flatten(2).flip(1)),
    "acos": lambda x: torch.acos(x.tanh()),
}


class Small(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor], last: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 1), function
        self.last = last or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.conv(x)).flatten(1)[:, -5:])


@pytest.mark.parametrize("name", UNCOVERED)
def test_a_function_without_a_rule_leaves_a_residual_that_is_measured(
    name: str, seeded: Callable[..., Any], residual: Callable[..., float]
) -> None:
    net = seeded(lambda: Small(UNCOVERED[name]).double())
    assert residual(net, IMAGES) > 1e-3


@pytest.mark.parametrize("ending", [nn.Softmax(-1), nn.Sigmoid()])
def test_probabilities_at_the_end_are_followed_by_their_tangent(
    ending: nn.Module, seeded: Callable[..., Any]
) -> None:
    """With frozen gates as without, in a network that is piecewise linear otherwise."""
    model = VisionModel(seeded(lambda: Small(F.leaky_relu, ending).double()), activation="none")
    found = []
    for gates in ("frozen", None):
        asked = Requirements("conv", gates=gates) if gates else Requirements("conv")
        with open_recording(model, IMAGES, asked) as recording:
            [gradient] = recording.gradients(torch.eye(5)[:2].double(), "conv")
            found.append(gradient)
    assert found[0].any()
    torch.testing.assert_close(*found)


def without_graph(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.relu()


@pytest.mark.parametrize(
    "function", [without_graph, lambda x: x.detach(), lambda x: x.argmax(1, keepdim=True).double()]
)
def test_a_network_that_cuts_its_own_graph_is_refused_with_a_way_out(
    function: Callable[[Tensor], Tensor], seeded: Callable[..., Any]
) -> None:
    model = VisionModel(seeded(lambda: Small(function).double()))
    refused = pytest.raises(MethodError, match=r"(?s)No gradient flows.*only runs the network")
    with open_recording(model, IMAGES, Requirements("conv")) as recording, refused:
        recording.gradients(torch.ones_like(recording.logits), "conv")


def test_a_later_layer_is_named_only_where_the_output_has_a_gradient() -> None:
    conv, head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
    for after, later in ((head, True), (nn.Identity(), False)):
        net = nn.Sequential(conv, Cut(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), after).double()
        found = without_gradient(VisionModel(net.eval()), IMAGES[:1])
        assert found is not None
        assert ("or name a later layer" in str(found)) is later


class Cut(nn.Module):
    """A module that has no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


def test_a_backbone_under_no_grad_leaves_the_layers_after_it(
    seeded: Callable[..., Any], residual: Callable[..., float]
) -> None:
    """As networks with a frozen backbone are often written."""

    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.neck = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.backbone(x)
            return self.head(F.gelu(self.neck(x)).mean((2, 3)))

    net = seeded(lambda: Frozen().double())
    assert residual(net, IMAGES, "neck") < 1e-12
    with open_recording(VisionModel(net), IMAGES, Requirements("auto")) as recording:
        assert recording.layer("auto").name == "neck"
    # Also beside a place inside the block, whose own gradient is cut.
    with open_recording(VisionModel(net), IMAGES, Requirements("backbone", "neck")) as recording:
        seed = torch.ones_like(recording.logits)
        assert recording.gradients(seed, "neck")[0].any()
        assert not recording.gradients(seed, "backbone", missing="zero")[0].any()


def test_a_network_whose_way_changes_from_run_to_run_is_refused_by_the_replay(
    seeded: Callable[..., Any],
) -> None:
    functions = [F.gelu]

    def by_turns(x: Tensor) -> Tensor:
        return functions[-1](x)

    net = seeded(lambda: Small(by_turns).double())
    requirements = Requirements("input", gates="frozen", tape=True)
    with open_recording(VisionModel(net), IMAGES, requirements) as recording:
        functions.append(F.relu)
        with pytest.raises(
            MethodError, match=r"(?s)the replay ran 'relu' where gelu.*verify=False"
        ):
            constant_part(recording, "input")
        # The recording itself goes on.
        assert recording.gradients(torch.ones_like(recording.logits), "input")[0].any()


def test_a_place_that_the_forward_pass_does_not_come_by_this_time_is_named(
    seeded: Callable[..., Any],
) -> None:
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            branch = self.one if float(x.sum()) > 0 else self.two
            return branch(x).mean((2, 3))

    model = VisionModel(seeded(lambda: Moody().double()))
    with open_recording(model, IMAGES, Requirements("one")):
        pass
    with pytest.raises(MethodError, match=r"did not run one.*"):
        open_recording(model, -IMAGES, Requirements("one")).__enter__()
    with pytest.raises(LayerError, match="no layer 'two' that its forward pass calls"):
        open_recording(model, IMAGES, Requirements("two")).__enter__()


def test_a_tape_replays_from_its_earliest_place_only(seeded: Callable[..., Any]) -> None:
    model = VisionModel(seeded(lambda: Small(F.relu).double()))
    requirements = Requirements("input", "conv", gates="frozen", tape=True)
    with open_recording(model, IMAGES, requirements) as recording:
        constant_part(recording, "input")
        with pytest.raises(MethodError, match="starts at input, so it can't be replayed from conv"):
            constant_part(recording, "conv")


def test_a_tape_hands_out_its_gates_in_order() -> None:
    tape = Tape(SavedTensors())
    tape.put("relu", 1)
    tape.put("gelu", 2)
    tape.seal()
    tape.put("relu", 3)
    assert len(tape) == 2
    assert [tape.take("relu"), tape.take("gelu")] == [1, 2]
    with pytest.raises(MethodError, match="ran 'gelu' where the end was recorded"):
        tape.take("gelu")
    tape.rewind()
    with pytest.raises(MethodError, match="ran 'gelu' where relu was recorded"):
        tape.take("gelu")
