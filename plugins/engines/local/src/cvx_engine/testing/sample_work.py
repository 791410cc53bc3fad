"""Work without images, for tests of engines: numbers, some of which break what touches them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cvx_core import InputError, ModelError, OutputError
from cvx_engine.base import Work
from cvx_engine.pool import FailedItem, explain_batch

WIDTH = 64
"""Length of what a sample holds."""


@dataclass(frozen=True)
class Sample:
    """One item.

    Attributes
    ----------
    id
        Its number.
    does
        What happens to who touches it: ``""`` nothing, ``"is bad"``, ``"raises"``, ``"kills"`` and
        ``"hangs"`` its decoder; ``"kills the model"``, ``"breaks the model"`` which explains it.
    """

    id: int
    does: str = ""


@dataclass(frozen=True)
class Read:
    """A sample, decoded: numbers drawn from its id."""

    sample: Sample
    values: torch.Tensor


@dataclass(frozen=True)
class Reader:
    """Decodes samples.

    Attributes
    ----------
    seen
        Folder in which each process that works leaves its number.
    pause
        Seconds that each sample takes.
    """

    seen: Path
    pause: float

    def __call__(self, sample: Sample) -> Read:
        """Return its values, or do what it does."""
        (self.seen / str(os.getpid())).touch()
        time.sleep(self.pause)
        if sample.does == "is bad":
            raise InputError(f"Sample {sample.id} is bad.")
        if sample.does == "raises":
            raise ValueError("raised")
        if sample.does == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        if sample.does == "hangs":
            time.sleep(1000)
        generator = torch.Generator().manual_seed(sample.id)
        return Read(sample, torch.randn(WIDTH, generator=generator))


class SampleWork(Work[Sample, Read, dict[str, Any]]):
    """Samples through a linear layer; rows go into a JSON file for each block.

    Parameters
    ----------
    folder
        Where the files are written; it exists.
    count
        How many samples.
    does
        What samples do, by their numbers.
    block_size, batch_size, timeout, pause
        Of the work.
    full
        Whether the disk is.
    """

    def __init__(
        self,
        folder: Path,
        count: int = 16,
        does: dict[int, str] | None = None,
        *,
        block_size: int = 8,
        batch_size: int = 4,
        timeout: float = 1.0,
        pause: float = 0.0,
        full: bool = False,
    ) -> None:
        self.folder, self.count, self.does = folder, count, does or {}
        self.block_size, self.batch_size, self.timeout = block_size, batch_size, timeout
        self.full, self.home = full, os.getpid()
        self.seen = folder / "processes"
        self.seen.mkdir(exist_ok=True)
        self._reader = Reader(self.seen, pause)
        weight = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
        self.layer = torch.nn.Linear(WIDTH, 5)
        self.layer.load_state_dict({"weight": weight, "bias": torch.zeros(5)})

    def file(self, block: int) -> Path:
        """Return where the rows of a block are."""
        return self.folder / f"{block}.json"

    def pending(self) -> list[int]:
        """Return the blocks without a file."""
        return [k for k in range(-(-self.count // self.block_size)) if not self.file(k).exists()]

    def items(self, block: int) -> list[Sample]:
        """Return a block's samples."""
        start = block * self.block_size
        numbers = range(start, min(start + self.block_size, self.count))
        return [Sample(number, self.does.get(number, "")) for number in numbers]

    def decode(self, item: Sample) -> Read:
        """Return a sample's values."""
        return self._reader(item)

    def decoder(self) -> Callable[[Sample], Read]:
        """Return what decodes, without the layer."""
        return self._reader

    def explain(self, batch: Sequence[Read]) -> list[dict[str, Any]]:
        """Return a row for each, with what was beside it."""
        (self.seen / str(os.getpid())).touch()
        for one in batch:
            if one.sample.does == "kills the model":
                os.kill(os.getpid(), signal.SIGKILL)
            if one.sample.does == "breaks the model":
                raise ModelError("The model broke.", "Mend it.")
        with torch.no_grad():
            answers = self.layer(torch.stack([one.values for one in batch]))
        beside = [one.sample.id for one in batch]
        return [
            {"id": one.sample.id, "status": "ok", "answer": answer.tolist(), "beside": beside}
            for one, answer in zip(batch, answers, strict=True)
        ]

    def failed(self, item: Sample, status: str, message: str) -> dict[str, Any]:
        """Return the row of one that has no answer."""
        return {"id": item.id, "status": status, "message": message}

    def commit(self, block: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write a block's rows."""
        assert os.getpid() == self.home, "commit was called in another process than run"
        assert sorted(row["id"] for row in rows) == [item.id for item in self.items(block)]
        if self.full:
            raise OutputError("The disk is full.", "Make room.")
        ordered = sorted(rows, key=lambda row: int(row["id"]))
        partial = self.file(block).with_suffix(".partial")
        partial.write_text(json.dumps(ordered))
        partial.replace(self.file(block))

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows that were committed, in order."""
        files = sorted(self.folder.glob("*.json"), key=lambda file: int(file.stem))
        return [row for file in files for row in json.loads(file.read_bytes())]

    def processes(self) -> list[int]:
        """Return the numbers of all processes that have worked."""
        return [int(file.name) for file in self.seen.iterdir()]


def plain_loop(work: SampleWork) -> list[dict[str, Any]]:
    """Return the rows that any engine must make, where no item ends its process or blocks it."""
    found = []
    for block in work.pending():
        rows = []
        for batch in work.batches(block):
            rows += explain_batch(work, batch, [_decoded(work, item) for item in batch])
        found += sorted(rows, key=lambda row: int(row["id"]))
    return found


def _decoded(work: SampleWork, item: Sample) -> Any:
    if item.does in ("kills", "hangs"):
        return FailedItem("crashed", "")
    try:
        return work.decode(item)
    except (InputError, ValueError) as error:
        return FailedItem("bad input", str(error))
