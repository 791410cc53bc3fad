"""Limits of what an explanation costs beside the network, in counts that don't shake."""

from __future__ import annotations

import pytest
import torch
import torchvision

import cvx_core as cvx
from tests.bench.counts import count, device_reads, python_calls

# Calls and reads of ResNet-18 for a batch; the four reads are of the model's guard. The rules of
# relevance run in Python for each layer, and look once at the sign of what goes into it.
LIMITS = {
    "grad-cam": (3_100, 4),
    "location-attention": (7_000, 4),
    "saliency": (4_000, 4),
    "activation-error:rule=frozen": (5_500, 5),
    "epsilon-plus": (6_400, 44),
    "activation-error": (7_900, 44),
}


@pytest.fixture(scope="module")
def model() -> cvx.VisionModel:
    torch.manual_seed(0)
    return cvx.VisionModel(torchvision.models.resnet18(weights=None).eval())


@pytest.mark.parametrize("name", LIMITS)
def test_a_further_image_takes_few_calls_and_no_read_of_the_device(
    model: cvx.VisionModel, name: str
) -> None:
    found, (calls, reads) = count(model, name, size=32), LIMITS[name]
    assert found.calls_an_image <= 160
    assert found.reads_an_image == 0
    assert found.calls <= calls
    assert found.reads <= reads


def test_calls_and_reads_are_counted() -> None:
    def read() -> float:
        return float(torch.ones(1).sum())

    assert device_reads(lambda: read() + read()) == 2
    assert python_calls(lambda: read() + read()) == 3
