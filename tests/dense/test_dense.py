"""A few networks of the dense coverage run; ``python tests/dense`` measures all of them."""

from __future__ import annotations

import pytest

from dense.measure import LIMIT, measure, wrong
from dense.networks import Network, networks

FEW = (
    "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
    "torchvision:ssdlite320_mobilenet_v3_large",
    "torchvision:lraspp_mobilenet_v3_large",
    "transformers:detr",
    "transformers:rt_detr",
    "transformers:d_fine",
    "transformers:mask2former",
    "transformers:segformer",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [n for n in networks() if f"{n.source}:{n.name}" in FEW], ids=lambda n: n.name
)
def test_a_dense_network_is_covered(network: Network) -> None:
    found = measure(network)
    assert wrong(found) == []
    assert found.get("side", 0.0) <= LIMIT


@pytest.mark.slow
def test_the_few_are_there() -> None:
    assert set(FEW) <= {f"{network.source}:{network.name}" for network in networks()}
