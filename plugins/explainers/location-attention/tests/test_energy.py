"""The energy of a layer, and what a class-agnostic map says about itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvx_core import ClassScore, Margin, OptionError, VisionModel, get_explainer
from cvx_core.testing import models

A = torch.tensor([[[1.0, 2.0], [3.0, 0.0]], [[0.0, -1.0], [4.0, 2.0]]])


class Given(nn.Module):
    """Two channels of 2 x 2 cells, the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.Identity(), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("power", "expected", "unit"),
    [
        (1, [[1, 3], [7, 2]], "|activation|^1"),
        (2, [[1, 5], [25, 4]], "squared activation"),
        (4, [[1, 17], [337, 16]], "|activation|^4"),
    ],
)
def test_the_energy_is_the_sum_of_powers_over_channels(
    power: float, expected: list[list[float]], unit: str
) -> None:
    """Zagoruyko and Komodakis 2017, F_sum^p: 3^4 + 4^4 = 81 + 256 = 337."""
    explainer = get_explainer("location-attention", mode="energy", power=power)
    [one] = explainer.explain(VisionModel(Given()), A[None])
    np.testing.assert_array_equal(one.values, expected)
    assert one.unit == unit
    assert one.provenance["mode"] == "energy"
    assert one.evidence["sum"] == np.sum(expected)


def test_the_map_says_that_it_is_the_same_for_every_class() -> None:
    """In the target, in the note and in the evidence; and so it is."""
    model, batch = VisionModel(Given()), A[None]
    ask = get_explainer("location-attention").explain
    first, second = ask(model, batch, [[ClassScore(0), Margin(1)]])
    np.testing.assert_array_equal(first.values, second.values)
    for one in (first, second):
        assert one.target.text == "where does the model look?"
        assert one.target.note == "This map does not depend on the target."
        assert one.evidence["class_specific"] is False
        assert not one.signed


def test_a_layer_can_be_asked_by_name() -> None:
    """The energy of the second convolution's ReLU, computed apart."""
    model, batch = models.convolutional(), models.inputs(2)
    net = model.module
    with torch.no_grad():
        first = net.norm(net.first(batch)).relu()
    found = get_explainer("location-attention", layer="relu#0").explain(model, batch)
    for one, expected in zip(found, first.square().sum(1).numpy(), strict=True):
        np.testing.assert_allclose(one.values, expected, rtol=1e-5)
        assert one.provenance["layer_reason"] == "named by the caller"


@pytest.mark.parametrize(
    "parameters",
    [
        {"mode": "roll-out"},
        {"power": 0},
        {"power": -1},
        {"power": float("nan")},
        {"power": float("inf")},
        {"power": "two"},
        {"query": (1, 2, 3)},
        {"query": 5},
        {"query": ("left", "top")},
        {"mode": "energy", "query": (1, 2)},
        {"mode": "reads"},
        {"channel": 1},
        {"channel": 1.5, "query": (1, 2)},
    ],
)
def test_values_that_mean_nothing_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        get_explainer("location-attention", **parameters)


class Half(nn.Module):
    """Two channels of 4 x 4 cells, of which the outputs read the first."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.Identity(), nn.Linear(2, 3)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.0], [-3.0, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x).mean((2, 3)))


def test_contributions_leave_out_what_no_output_reads() -> None:
    """Channel 2 is 100 at a corner and unread; of channel 1, a: (a w.r / 16)^2, so as a^2."""
    x = torch.zeros(1, 2, 4, 4)
    x[0, 1, 3, 3] = 100.0
    x[0, 0, 0, 1], x[0, 0, 2, 2] = 1.0, 2.0
    energy, contributions = (
        get_explainer("location-attention", mode=mode).explain(VisionModel(Half()), x)[0]
        for mode in ("energy", "auto")
    )
    assert energy.values.argmax() == 15
    assert contributions.values.argmax() == 10
    assert contributions.values[3, 3] == 0
    assert contributions.values[2, 2] == pytest.approx(4 * contributions.values[0, 1])
    assert contributions.unit == "squared logits"
    assert contributions.provenance["mode"] == "contributions"
