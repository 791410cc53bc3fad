"""Images that run together: as many as a budget lets, and one where they would mix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cvx_core.explainers.batching import images_at_once
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Layout
from cvx_core.testing import models


class Centred(nn.Module):
    """Compares each image with the mean of its batch."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0, keepdim=True) / 2).mean((2, 3))


@pytest.mark.parametrize("budget", [None, 10**9])
def test_images_that_a_network_mixes_run_one_by_one(budget: int | None) -> None:
    assert images_at_once(VisionModel(Centred()), torch.rand(3, 8, 8), budget) == 1


def test_as_many_images_run_together_as_the_budget_has_room_for_and_one_at_least() -> None:
    model, [image] = models.convolutional(), models.inputs(1)
    each = Layout.of(model, image[None]).bytes_per_image
    found = [images_at_once(model, image, budget) for budget in (0, each, 3 * each - 1, 3 * each)]
    assert found == [1, 1, 2, 3]
    assert images_at_once(model, image, None) == 2 * 1024**3 // each
