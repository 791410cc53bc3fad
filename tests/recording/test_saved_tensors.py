"""After a recording nothing of it is left in memory."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from cvx_core import Requirements, VisionModel
from cvx_core.recording.layer_selection.selection import open_recording


def tensors() -> int:
    """Return how many tensors there are that somebody can reach, or nobody can but a cycle."""
    gc.collect()
    return sum(type(one) is torch.Tensor for one in gc.get_objects())


@pytest.mark.parametrize("gates", ["native", "frozen"])
def test_an_operation_that_keeps_its_own_output_is_let_go(gates: str) -> None:
    # ReLU keeps what it returns; a graph that keeps it with its graph is a cycle through C++, which
    # is never collected.
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten())
    module = nn.Sequential(*layers, nn.Linear(64, 2))
    model = VisionModel(module.eval())
    inputs = torch.zeros(1, 3, 8, 8)

    def record() -> None:
        with open_recording(model, inputs, Requirements("0", gates=gates)) as recording:  # type: ignore[arg-type]
            recording.gradient(torch.ones(1, 2), "0")

    record()
    before = tensors()
    for _ in range(3):
        record()
    assert tensors() == before
