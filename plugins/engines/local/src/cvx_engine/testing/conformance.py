"""Conformance tests of an engine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cvx_core import ModelError, OutputError, UsageError
from cvx_core.testing import Conformance
from cvx_engine.base import Engine, Listener, get_engine
from cvx_engine.testing.sample_work import SampleWork, plain_loop

PATIENCE = 120.0
"""Seconds within which what must happen has happened on any machine."""

DOES = {1: "is bad", 2: "raises", 9: "kills", 14: "hangs"}
"""What the samples of the run do that most checks look at."""


class Heard(Listener):
    """Notes what it hears, and may stop after the first block."""

    def __init__(self, work: SampleWork, *, stops: bool = False) -> None:
        self.work, self.stops = work, stops
        self.count = 0
        self.blocks: list[int] = []

    def advanced(self, count: int) -> None:
        """Count."""
        self.count += count

    def done(self, block: int, rows: Sequence[Any]) -> None:
        """Note the block, which is there by now."""
        assert self.work.file(block).exists()
        assert sorted(row["id"] for row in rows) == [i.id for i in self.work.items(block)]
        self.blocks.append(block)
        self.stop = self.stops


_finished: dict[type, tuple[SampleWork, Heard]] = {}


class EngineConformance(Conformance):
    """Checks of an engine; see `Conformance` for the attributes.

    Attributes
    ----------
    outlives_models
        Whether the engine goes on if an item ends the process that explains it.
    """

    kind: ClassVar[str] = "engine"
    outlives_models: ClassVar[bool] = False

    def engine(self) -> Engine:
        """Return the engine under test."""
        return get_engine(self.component, **self.parameters)

    @pytest.fixture
    def finished(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[SampleWork, Heard]:
        """Run two blocks in which all sorts of things happen; once, since some engines are slow."""
        if type(self) not in _finished:
            work = SampleWork(tmp_path_factory.mktemp("finished"), 16, DOES)
            heard = Heard(work)
            self.engine().run(work, heard)
            _finished[type(self)] = work, heard
        return _finished[type(self)]

    def test_every_item_has_one_row(self, finished: tuple[SampleWork, Heard]) -> None:
        """Whatever became of it."""
        work, _ = finished
        assert [row["id"] for row in work.rows()] == list(range(16))
        assert work.pending() == []

    def test_an_item_that_breaks_something_costs_no_other(
        self, finished: tuple[SampleWork, Heard]
    ) -> None:
        """One that can't be read is bad; one that ends or blocks its process is crashed."""
        odd = {row["id"]: row["status"] for row in finished[0].rows() if row["status"] != "ok"}
        assert odd == {1: "bad input", 2: "bad input", 9: "crashed", 14: "crashed"}
        rows = finished[0].rows()
        assert "Sample 1 is bad." in rows[1]["message"]
        assert all(rows[number]["message"] for number in odd)

    def test_the_rows_are_those_of_a_plain_loop(
        self, finished: tuple[SampleWork, Heard], tmp_path: Path
    ) -> None:
        """Batches are cut by position, so that each value is that of any other engine."""

        def answered(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
            return [row for row in rows if row["status"] == "ok"]

        expected = plain_loop(SampleWork(tmp_path, 16, DOES))
        assert answered(finished[0].rows()) == answered(expected)

    def test_the_listener_hears_of_every_row_and_every_block(
        self, finished: tuple[SampleWork, Heard]
    ) -> None:
        """Once each, of a block when it is there."""
        _, heard = finished
        assert heard.count == 16
        assert sorted(heard.blocks) == [0, 1]

    def test_a_run_that_is_stopped_finishes_what_it_began_and_goes_on(self, tmp_path: Path) -> None:
        """No block is done twice, and none is forgotten."""
        work = SampleWork(tmp_path, 48, block_size=2, batch_size=1, pause=0.01)
        heard = Heard(work, stops=True)
        self.engine().run(work, heard)
        begun = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.json")}
        assert len(begun) == len(heard.blocks)
        assert 1 <= len(begun) < 24
        rest = Heard(work)
        self.engine().run(work, rest)
        assert sorted(heard.blocks + rest.blocks) == list(range(24))
        assert all(file.stat().st_mtime_ns == when for file, when in begun.items())
        (tmp_path / "again").mkdir()
        again = SampleWork(tmp_path / "again", 48, block_size=2, batch_size=1)
        assert work.rows() == plain_loop(again)

    def test_where_nothing_is_pending_nothing_is_done(self, tmp_path: Path) -> None:
        """Not even begun."""
        work = SampleWork(tmp_path, 1)
        work.file(0).write_text("[]")
        self.engine().run(work, Heard(work))
        assert work.processes() == []

    @pytest.mark.parametrize("what", ["the disk", "the model"])
    def test_what_can_not_go_on_is_told(self, tmp_path: Path, what: str) -> None:
        """As the error that it is, and nobody is left behind."""
        full = what == "the disk"
        work = SampleWork(tmp_path, 8, {} if full else {3: "breaks the model"}, full=full)
        with pytest.raises(OutputError if full else ModelError) as caught:
            self.engine().run(work, Heard(work))
        assert caught.value.hint
        assert work.pending() == [0]
        assert_ended([number for number in work.processes() if number != os.getpid()])

    def test_an_item_that_ends_the_model_s_process_costs_no_other(self, tmp_path: Path) -> None:
        """Where the model's process is another than that of the run."""
        if not self.outlives_models:
            pytest.skip("the model is in the process of the run")
        work = SampleWork(tmp_path, 8, {2: "kills the model"})
        self.engine().run(work, Heard(work))
        rows = work.rows()
        assert [row["id"] for row in rows if row["status"] == "crashed"] == [2]
        assert rows[0]["beside"] == [0, 1, 3]
        assert rows[5]["beside"] == [4, 5, 6, 7]

    def test_killed_and_begun_again_it_ends_with_the_same_rows(self, tmp_path: Path) -> None:
        """And of the run that was killed no process is left."""
        work = SampleWork(tmp_path, 64, {60: "is bad"}, block_size=2, batch_size=1, pause=0.05)
        process = multiprocessing.get_context("spawn").Process(
            target=run_at_home, args=(self.engine(), work)
        )
        process.start()
        deadline = time.monotonic() + PATIENCE
        while len(work.pending()) == 32:
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.join()
        assert_ended(work.processes())
        assert work.pending()
        self.engine().run(work, Heard(work))
        (tmp_path / "again").mkdir()
        again = SampleWork(tmp_path / "again", 64, {60: "is bad"}, block_size=2, batch_size=1)
        expected = plain_loop(again)
        assert [row["id"] for row in work.rows()] == list(range(64))
        assert [row for row in work.rows() if row["id"] != 60] == [
            row for row in expected if row["id"] != 60
        ]

    def test_it_survives_pickling(self) -> None:
        """Its parameters are all that it is."""
        engine = self.engine()
        assert pickle.loads(pickle.dumps(engine)) == engine

    def test_a_parameter_that_it_does_not_take_is_refused(self) -> None:
        """Nothing is swallowed."""
        with pytest.raises(UsageError, match="no_such_parameter_of_ours"):
            get_engine(self.component, **self.parameters, no_such_parameter_of_ours=1)


def run_at_home(engine: Engine, work: SampleWork) -> None:
    """Run work in this process, which has not made it."""
    work.home = os.getpid()
    engine.run(work, Listener())


def assert_ended(processes: Sequence[int]) -> None:
    """Wait until processes have ended."""
    deadline = time.monotonic() + PATIENCE
    left = list(processes)
    while left and time.monotonic() < deadline:
        left = [number for number in left if _alive(number)]
        time.sleep(0.05)
    assert left == []


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    # One that has ended and that nobody asked after is no process any more.
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")
