"""What a model makes of images that are given as tensors."""

from __future__ import annotations

import hashlib

import pytest
import torch

from cvx_core import ModelError, VisionModel
from cvx_core.testing import models


def test_the_digest_of_a_tensor_is_of_all_its_values() -> None:
    x = models.inputs(2)
    one, two = models.convolutional().prepare(x)
    assert one.source.digest == hashlib.sha256(x[0].numpy().tobytes()).hexdigest()
    assert two.source.digest == hashlib.sha256(x[1].numpy().tobytes()).hexdigest()
    # The order of values in memory is not their order in the tensor.
    [other] = models.convolutional().prepare(x[0].mT.contiguous().mT)
    assert other.source.digest == one.source.digest


def test_a_forward_that_needs_more_than_the_image_names_the_wrapper() -> None:
    class Pair(torch.nn.Module):
        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return (first - second).mean((2, 3))

    with pytest.raises(ModelError, match=r"(?s)missing 1 required.*wrapper.*self\.net\(x"):
        VisionModel(Pair()).predict(torch.zeros(1, 3, 4, 4))
