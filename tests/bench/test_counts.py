"""Limits of what an explanation costs beside the network, in counts that don't shake."""

from __future__ import annotations

import pytest
import torch
import torchvision

import cvx_core as cvx
from tests.bench.counts import count, device_reads, python_calls

# Calls and reads of ResNet-18 for a batch, a tenth above what was counted with PyTorch 2.14. Two
# reads are of the model's guard; with frozen gates a third asks whether anything is lost.
LIMITS = {
    "grad-cam": (2_400, 2),
    "location-attention": (3_500, 2),
    "saliency": (2_800, 2),
    "guided-backprop": (3_600, 2),
    "full-grad": (4_500, 2),
    "activation-error:rule=frozen": (4_600, 3),
    "lrp-epsilon": (3_800, 2),
    "epsilon-plus": (3_900, 2),
    "epsilon-alpha2-beta1-flat": (4_700, 2),
    "lrp-gamma": (4_400, 2),
    "attn-lrp": (4_400, 2),
    "contrastive-excitation-backprop": (4_400, 2),
    "activation-error": (4_800, 2),
    "deep-lift": (7_500, 2),
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
