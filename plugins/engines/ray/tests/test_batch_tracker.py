"""Nothing is lost and nothing is done twice, whatever ends the processes."""

from __future__ import annotations

import random
from pathlib import Path

from cvx_engine import Listener
from cvx_engine.testing.sample_work import SampleWork
from cvx_ray.batch_tracker import BatchTracker, Portion


class Cluster:
    """Explains portions, and ends over those that hold a killer, or by chance."""

    def __init__(self, work: SampleWork, chance: float = 0.0) -> None:
        self.work, self.chance = work, random.Random(0)
        self.often = chance
        self.listener = Listener()
        self.tracker = BatchTracker(work, self.listener)

    def ends(self, portion: Portion) -> bool:
        killers = any(item.does == "kills the model" for item in portion.items)
        together = sum(item.does == "kills together" for item in portion.items) > 1
        return killers or together or self.chance.random() < self.often

    def run(self) -> list[int]:
        """Work until all is done, several portions at a time, and return how many ended it."""
        ended, flying = [], []
        while self.tracker.unfinished:
            while len(flying) < 3 and (portion := self.tracker.next()) is not None:
                flying.append(portion)
            if flying:
                portion = flying.pop(self.chance.randrange(len(flying)))
                if self.ends(portion):
                    ended.append(portion.block)
                    self.tracker.died(portion)
                else:
                    found = [self.work.decode(item) for item in portion.items]
                    self.tracker.done(portion, self.work.explain(found))
            while self.tracker.gathered:
                block, rows = self.tracker.gathered.popleft()
                self.work.commit(block, rows)
        return ended


def explained(does: dict[int, str], folder: Path, chance: float = 0.0) -> SampleWork:
    # Nothing kills in here; the cluster above says what would.
    work = SampleWork(folder, 32, does)
    work.explain = lambda batch: [  # type: ignore[method-assign]
        {"id": one.sample.id, "status": "ok", "beside": [o.sample.id for o in batch]}
        for one in batch
    ]
    Cluster(work, chance).run()
    return work


def test_a_killer_is_found_and_the_others_are_explained_together(tmp_path: Path) -> None:
    rows = explained({5: "kills the model"}, tmp_path).rows()
    assert [row["id"] for row in rows] == list(range(32))
    assert [row["id"] for row in rows if row["status"] != "ok"] == [5]
    assert rows[5]["status"] == "crashed"
    assert rows[4]["beside"] == rows[7]["beside"] == [4, 6, 7]
    assert rows[0]["beside"] == [0, 1, 2, 3]


def test_a_batch_of_killers_is_crashed_as_a_whole(tmp_path: Path) -> None:
    rows = explained(dict.fromkeys(range(4, 8), "kills the model"), tmp_path).rows()
    assert [row["id"] for row in rows if row["status"] == "crashed"] == [4, 5, 6, 7]


def test_items_that_kill_together_only_have_the_rows_that_they_got_alone(tmp_path: Path) -> None:
    rows = explained({4: "kills together", 6: "kills together"}, tmp_path).rows()
    assert {row["status"] for row in rows} == {"ok"}
    assert rows[4]["beside"] == [4]


def test_processes_that_end_for_no_reason_cost_nothing(tmp_path: Path) -> None:
    rows = explained({}, tmp_path, chance=0.1).rows()
    assert [row["id"] for row in rows] == list(range(32))
    assert {row["status"] for row in rows} == {"ok"}


def test_once_stopped_no_block_is_begun_and_those_begun_are_ended(tmp_path: Path) -> None:
    work = SampleWork(tmp_path, 32)
    cluster = Cluster(work)
    first = cluster.tracker.next()
    assert first is not None
    cluster.listener.stop = True
    cluster.tracker.again(first)
    cluster.run()
    assert cluster.tracker.begun == [0]
    assert work.pending() == [1, 2, 3]
