"""Networks that answer differently twice: said, or refused where forward passes are compared."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvx_core import ClassScore, MethodError, VisionModel, get_explainer
from cvx_core.errors import CvxWarning
from cvx_core.testing import models


class Small(nn.Module):
    def __init__(self, change: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.conv, self.head, self.change = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 3), change
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.change(self.conv(x).relu(), self).mean((2, 3)))


def dropout(x: Tensor, _net: nn.Module) -> Tensor:
    return F.dropout(x, 0.5)  # without training=


def noise(x: Tensor, _net: nn.Module) -> Tensor:
    return x + torch.randn_like(x)


def state(x: Tensor, net: nn.Module) -> Tensor:
    return x * (1 + 0.1 * net.calls)


RANDOM = (dropout, noise, state)


@pytest.mark.parametrize("change", RANDOM)
@pytest.mark.parametrize("method", ["occlusion", "rise", "score-cam", "ablation-cam"])
def test_methods_that_compare_forward_passes_refuse(
    change: Callable[[Tensor, nn.Module], Tensor], method: str
) -> None:
    torch.manual_seed(0)
    model, x = VisionModel(Small(change).eval()), models.inputs(1)
    with (
        pytest.warns(CvxWarning, match="Two runs of Small on one image differ by up to"),
        pytest.raises(MethodError, match=r"Two runs.*can't be compared") as caught,
    ):
        get_explainer(method).explain(model, x, ClassScore(0))
    assert "training=self.training" in caught.value.hint


@pytest.mark.parametrize("change", RANDOM)
def test_other_methods_say_so(change: Callable[[Tensor, nn.Module], Tensor]) -> None:
    torch.manual_seed(0)
    model, x = VisionModel(Small(change).eval()), models.inputs(2)
    with pytest.warns(CvxWarning, match="its maps are of one of them"):
        one, _ = get_explainer("grad-cam").explain(model, x, ClassScore(0))
    assert "Two runs of Small on one image differ" in one.provenance["output_note"]


@pytest.mark.filterwarnings("error::cvx_core.errors.CvxWarning")
def test_a_network_that_repeats_itself_is_left_alone() -> None:
    torch.manual_seed(0)
    kept = nn.Dropout(0.5)
    net = Small(lambda x, _: kept(x))
    net.kept = kept
    model, x = VisionModel(net.train()), models.inputs(1)
    for method in ("occlusion", "grad-cam"):
        [one] = get_explainer(method).explain(model, x, ClassScore(0))
        assert one.provenance["output_note"] == ""
