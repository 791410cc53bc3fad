"""Finer levels: the last layer of each grid before the last one that all paths pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cvx_core import VisionModel
from cvx_core.recording import find_finer_levels, find_trunk
from cvx_core.testing import models


class Stages(nn.Module):
    """Grids of 16, 8 and 4 positions a side; at 8, a sum leads around the layer `inner`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 2, stride=2)
        self.inner, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 2, stride=2)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.first(x))
        x = x + self.inner(x)
        output: Tensor = self.head(self.last(x).mean((2, 3)))
        return output


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (1, []),
        (2, [("middle", (8, 8))]),
        (3, [("middle", (8, 8))]),
        (4, [("middle", (8, 8)), ("first", (16, 16))]),
    ],
)
def test_each_finer_grid_has_its_last_layer_that_all_paths_pass(
    times: int, expected: list[object]
) -> None:
    torch.manual_seed(0)
    found = find_finer_levels(VisionModel(Stages()), torch.randn(1, 3, 16, 16), times)
    assert [(layer.name, layer.grid) for layer in found] == expected


def test_a_transformer_of_one_grid_has_none() -> None:
    assert find_finer_levels(models.tokens(), models.inputs(1), 4) == ()


def test_layers_are_found_by_noise_where_the_image_silences_all_units() -> None:
    class Silent(Stages):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x - 0.1).relu())

    torch.manual_seed(0)
    black = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    found = find_trunk(VisionModel(Silent().double().eval()), black)
    assert [layer.name for layer in found if layer.name] == ["first", "middle", "last"]
