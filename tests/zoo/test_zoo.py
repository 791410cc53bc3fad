"""Every network of the coverage run; ``python tests/zoo`` measures the same and writes the page."""

from __future__ import annotations

import pytest

from zoo.exceptions import unexplained
from zoo.measure import measure
from zoo.networks import Network, networks


@pytest.mark.zoo
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("network", list(networks()), ids=lambda network: network.id)
def test_a_network_is_covered(network: Network) -> None:
    assert not unexplained(measure(network, beside=False))
