"""The engine keeps what an engine promises, and makes the rows of the engine of one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cvx_diagnose import Run, diagnose
from cvx_engine import Listener, Local
from cvx_engine.testing.conformance import EngineConformance
from cvx_ray.cluster import connected, imported
from cvx_ray.engine import Ray

from cvx_core import OptionError, VisionModel

Same = Callable[[pa.Table, pa.Table], bool]
Make = Callable[..., VisionModel]

QUICK: dict[str, Any] = {"block_size": 8, "batch_size": 4}


@pytest.fixture(autouse=True, scope="module")
def one_cluster_for_all() -> Iterator[None]:
    """Start Ray once; the engine stays in the cluster in which its program is."""
    with connected(imported()):
        yield


class TestRay(EngineConformance):
    component = "ray"
    outlives_models = True

    # Each of these begins processes that import PyTorch, or a whole cluster.
    @pytest.mark.slow
    def test_a_run_that_is_stopped_finishes_what_it_began_and_goes_on(self, tmp_path: Path) -> None:
        super().test_a_run_that_is_stopped_finishes_what_it_began_and_goes_on(tmp_path)

    @pytest.mark.slow
    @pytest.mark.parametrize("what", ["the disk", "the model"])
    def test_what_can_not_go_on_is_told(self, tmp_path: Path, what: str) -> None:
        super().test_what_can_not_go_on_is_told(tmp_path, what)

    @pytest.mark.slow
    def test_an_item_that_ends_the_model_s_process_costs_no_other(self, tmp_path: Path) -> None:
        super().test_an_item_that_ends_the_model_s_process_costs_no_other(tmp_path)

    @pytest.mark.slow
    def test_killed_and_begun_again_it_ends_with_the_same_rows(self, tmp_path: Path) -> None:
        super().test_killed_and_begun_again_it_ends_with_the_same_rows(tmp_path)


class StopsAfterTwo(Listener):
    def __init__(self) -> None:
        self.blocks: list[int] = []

    def done(self, block: int, rows: Any) -> None:
        self.blocks.append(block)
        self.stop = len(self.blocks) >= 2


@pytest.mark.slow
def test_what_the_local_engine_began_is_ended_by_this_one_with_the_same_rows(
    model: Make, photographs: Path, tmp_path: Path, same: Same
) -> None:
    # With seven images for each input one error of a block of eight is tested.
    asked = {**QUICK, "budget": 7.0}
    whole = diagnose(model(), photographs, tmp_path / "whole", engine=Local(workers=2), **asked)
    stops = StopsAfterTwo()
    begun = diagnose(
        model(), photographs, tmp_path / "run", engine=Local(workers=2), listener=stops, **asked
    )
    assert begun.done == [0, 1]
    run = diagnose(model(), photographs, tmp_path / "run", engine="ray", resume=True, **asked)
    assert same(run.table(), whole.table())
    assert run.summary == whole.summary
    assert whole.summary is not None
    assert whole.summary["counts"] == {
        "ok": 50,
        "bad input": 1,
        "model failure": 0,
        "crashed": 1,
    }
    assert sum(whole.table(["tested"], wrong=True)["tested"].to_pylist()) > 2


@pytest.mark.slow
def test_what_this_engine_began_is_ended_by_the_local_one_and_by_shards(
    model: Make, photographs: Path, tmp_path: Path, same: Same
) -> None:
    asked = {**QUICK, "budget": 0.0}
    whole = diagnose(model(), photographs, tmp_path / "whole", engine=Local(workers=2), **asked)
    stops = StopsAfterTwo()
    begun = diagnose(
        model(0.2), photographs, tmp_path / "run", engine="ray", listener=stops, **asked
    )
    assert 2 <= len(begun.done) < 7
    run = diagnose(model(), photographs, tmp_path / "run", engine="local", resume=True, **asked)
    assert same(run.table(), whole.table())
    for i, engine in enumerate(("ray", "local")):
        diagnose(model(), photographs, tmp_path / "parts", engine=engine, shard=(i, 2), **asked)
    assert same(Run(tmp_path / "parts").table(), whole.table())


def test_impossible_values_are_refused() -> None:
    for odd in ({"models": 0}, {"decoders": 1.5}, {"device": "tpu"}, {"wait": 0}):
        with pytest.raises(OptionError):
            Ray(**odd)  # type: ignore[arg-type]
