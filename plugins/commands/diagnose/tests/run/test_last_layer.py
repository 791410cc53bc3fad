"""The features: what the last linear layer reads."""

from __future__ import annotations

import torch
from cvx_diagnose.run.inference.last_layer import LastLayer
from torch import Tensor, nn

from cvx_core import VisionModel


class TwoHeads(nn.Module):
    """Two linear layers behind a third; only one of the two gives the answer."""

    def __init__(self, scaled: bool = False) -> None:
        super().__init__()
        self.body, self.answer, self.other = nn.Linear(12, 5), nn.Linear(5, 3), nn.Linear(5, 3)
        self.scaled = scaled

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x.flatten(1)).relu_()
        answer: Tensor = self.answer(h)
        self.other(h)
        h.zero_()  # what was read must be kept
        return 2 * answer if self.scaled else answer


def test_the_answer_is_a_linear_map_of_the_features() -> None:
    net = TwoHeads()
    model, inputs = VisionModel(net), torch.randn(4, 3, 2, 2)
    found = LastLayer.of(model, inputs)
    assert found == LastLayer("answer", 5)
    reading, features = found.read(model, inputs)
    assert torch.equal(features, net.body(inputs.flatten(1)).relu())
    assert torch.allclose(reading.flat, features @ net.answer.weight.T + net.answer.bias)
    assert not any(module._forward_hooks for module in net.modules())


def test_a_layer_whose_output_is_worked_on_is_none() -> None:
    inputs = torch.randn(1, 3, 2, 2)
    assert LastLayer.of(VisionModel(TwoHeads(scaled=True)), inputs) is None
