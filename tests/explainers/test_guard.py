"""What an explainer leaves on the model is found after it, undone and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cvx_core import Attribution, Explainer, ExplainRequest, Requirements, get_explainer
from cvx_core.errors import PluginError
from cvx_core.explainers import guard
from cvx_core.models.vision_model import VisionModel
from cvx_core.testing import models

Doing = Callable[[nn.Module], object]


def meddling(doing: Doing, *, failing: bool = False) -> Explainer:
    class Meddling(Explainer):
        def requirements(self) -> Requirements:
            return Requirements("input")

        def attribute(self, request: ExplainRequest) -> list[Attribution]:
            recording = request.recording(self.requirements())
            doing(request.model.module)
            if failing:
                raise ValueError("of its own")
            return [Attribution(request.inputs[:, 0]) for _ in request.seeds(recording.logits)]

    return Meddling()


def hooked(net: nn.Module) -> None:
    net.first.register_forward_hook(lambda *found: found[2] + 1)


def backward(net: nn.Module) -> None:
    net(models.inputs(1)).sum().backward()


@torch.no_grad()
def scaled(net: nn.Module) -> None:
    net.first.weight.mul_(2)


def scaled_in_secret(net: nn.Module) -> None:
    net.first.weight.data.mul_(2)


def patched(net: nn.Module) -> None:
    net.first.forward = lambda x: x[:, :1].repeat(1, net.first.out_channels, 1, 1)


DOINGS: dict[str, tuple[Doing, str]] = {
    "forward hook": (hooked, "a forward hook on 'first', removed"),
    "hook before": (
        lambda net: net.head.register_forward_pre_hook(lambda *_: None),
        "a forward pre hook on 'head', removed",
    ),
    "backward hook": (
        lambda net: net.first.register_full_backward_hook(lambda *_: None),
        "a backward hook on 'first', removed",
    ),
    "weight": (scaled, "the values of first.weight, restored"),
    "weight's data": (scaled_in_secret, "the values of first.weight, restored"),
    "buffer": (lambda net: net.norm.running_mean.add_(1), "the values of norm.running_mean"),
    "mode": (lambda net: net.train(), "the mode of the network, restored"),
    "layer": (lambda net: setattr(net, "head", nn.Identity()), "head of the network, put back"),
    "parameter": (
        lambda net: setattr(net.first, "weight", nn.Parameter(torch.zeros(1))),
        "weight of 'first', put back",
    ),
    "forward": (patched, "forward of 'first', put back"),
    "flag": (lambda net: net.first.weight.requires_grad_(False), "requires_grad of first.weight"),
    "gradient": (backward, "the gradient of first.weight, put back"),
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.first(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("kind", DOINGS)
def test_what_is_left_is_undone_and_named(kind: str, *, failing: bool) -> None:
    doing, named = DOINGS[kind]
    torch.manual_seed(0)
    net, x = Net(), models.inputs(2)
    net.head.eval()  # modes differ
    model = VisionModel(net)
    [expected] = get_explainer("grad-cam").explain(model, x[:1])
    modes = [module.training for module in net.modules()]
    if failing:  # its own error comes first, and the model is put in order all the same
        with pytest.raises(ValueError, match="of its own"):
            meddling(doing, failing=True).explain(model, x)
    else:
        with pytest.raises(PluginError, match="meddling left the model changed") as caught:
            meddling(doing).explain(model, x)
        assert named in caught.value.message
        assert caught.value.exit_code == 6
    assert [module.training for module in net.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    [found] = get_explainer("grad-cam").explain(model, x[:1])
    assert (found.values == expected.values).all()
    assert found.provenance["weights_sha256"] == expected.provenance["weights_sha256"]


def test_recordings_are_no_fault_of_an_explainer() -> None:
    """Their hooks and modes last until the batch is done."""
    model, x = models.convolutional(), models.inputs(2)
    model.module.train()
    found = get_explainer("grad-cam").explain(model, x)
    assert len(found) == 2
    assert model.module.training


class Counting(Net):
    """Counts its forward passes in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return super().forward(x)


def test_what_the_network_changes_itself_is_no_fault_of_an_explainer() -> None:
    model: Any = VisionModel(Counting())
    get_explainer("saliency").explain(model, models.inputs(1))
    with pytest.raises(PluginError) as caught:
        meddling(scaled).explain(model, models.inputs(1))
    assert "first.weight" in caught.value.message
    assert "count" not in caught.value.message


def test_a_change_of_large_weights_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LARGEST", 10)
    with pytest.raises(PluginError, match=r"first.weight, which is too large to be restored"):
        meddling(scaled).explain(VisionModel(Net()), models.inputs(1))


def test_a_large_weight_that_is_changed_in_secret_is_found_and_restored() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 3, 8), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Flatten())
    net.append(nn.Linear(64 * 2 * 2, 3))
    model, x, before = VisionModel(net.eval()), models.inputs(1), net[2].weight.detach().clone()
    with pytest.raises(PluginError, match=r"the values of 2\.weight, restored"):
        meddling(lambda net: net[2].weight.data.mul_(2)).explain(model, x)
    assert torch.equal(net[2].weight, before)


def test_what_the_user_changes_between_runs_is_not_undone() -> None:
    torch.manual_seed(0)
    net, x = Net(), models.inputs(1)
    model, explainer = VisionModel(net.eval()), get_explainer("grad-cam")
    explainer.explain(model, x)
    net.first.weight.data.mul_(2)
    changed = net.first.weight.detach().clone()
    with pytest.raises(PluginError, match="restored"):
        meddling(scaled_in_secret).explain(model, x)
    assert torch.equal(net.first.weight, changed)
