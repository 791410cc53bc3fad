"""The engine of a Ray cluster keeps what an engine promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cvx_ray.cluster import connected, imported

from cvx_core.testing.conformance import EngineConformance


@pytest.fixture(autouse=True, scope="module")
def one_cluster_for_all() -> Iterator[None]:
    """Start Ray once; the engine stays in the cluster in which its program is."""
    with connected(imported()):
        yield


class TestRay(EngineConformance):
    component = "ray"
    outlives_models = True

    # It begins a cluster of its own in another process.
    @pytest.mark.slow
    def test_killed_and_begun_again_it_ends_with_the_same_rows(self, tmp_path: Path) -> None:
        super().test_killed_and_begun_again_it_ends_with_the_same_rows(tmp_path)
