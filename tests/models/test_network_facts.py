"""Networks whose weights change between questions, and networks that mix the images of a batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cvx_core import ClassificationPrediction, ClassScore, Error, VisionModel, get_explainer


class _TwoWays(nn.Module):
    """Reads layer `a` or layer `b`, whichever has weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.skip = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        y: Tensor = self.head((self.b(a) + self.skip(a)).mean((2, 3)))
        return y


def test_the_chosen_layer_follows_a_change_of_the_weights() -> None:
    torch.manual_seed(0)
    net = _TwoWays()
    with torch.no_grad():
        net.b.weight.zero_()
    model, x = VisionModel(net), torch.randn(1, 3, 8, 8)
    explainer = get_explainer("class-attention")
    [before] = explainer.explain(model, x)
    assert before.provenance["layer"] == "skip"
    with torch.no_grad():
        net.b.weight.normal_()
        net.skip.weight.zero_()
    [after] = explainer.explain(model, x)
    assert after.provenance["layer"] == "b"


def test_a_network_with_batch_statistics_answers_for_each_image_alone() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    model, x = VisionModel(net), torch.randn(2, 3, 8, 8)
    explainer = get_explainer("gradient-error")
    together = explainer.explain(model, x, target=[ClassScore(0), ClassScore(1)])
    [alone] = explainer.explain(model, x[:1], target=ClassScore(0))
    np.testing.assert_array_equal(together[0].values, alone.values)


def test_a_layer_with_a_path_around_it_says_so() -> None:
    torch.manual_seed(0)
    model, x = VisionModel(_TwoWays()), torch.randn(1, 3, 8, 8)
    reasons = [
        get_explainer("activation-error", layer=layer)
        .explain(model, x, target=ClassScore(0))[0]
        .provenance["layer_reason"]
        for layer in ("b", "a")
    ]
    assert "bypass it" in reasons[0]
    assert "bypass it" not in reasons[1]


def test_a_certain_and_right_answer_has_no_error_at_all() -> None:
    seed, record = Error(1).resolve(ClassificationPrediction(np.array([0.0, 60.0, 3.0])))
    assert not seed.any()
    assert "zero" in record.note
    seed, record = Error(1).resolve(ClassificationPrediction(np.array([0.0, 9.0, 3.0])))
    assert seed.any()
    assert "correct" in record.note
