"""Engine and work: base classes of what runs on many inputs, and of what is run.

A command that works on a whole data set cuts it into blocks of items. For each item something is
decoded, which takes a processor; what was decoded is explained in batches, which takes the model; a
block's rows are committed together. An engine decides in which processes and on which machines
that happens, and nothing else: whichever is chosen, the same rows come out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cvx_core import get_component
from cvx_core.plugins import component_name

Item = TypeVar("Item")
Decoded = TypeVar("Decoded")
Row = TypeVar("Row")


class Work(ABC, Generic[Item, Decoded, Row]):
    """What is to be done. It can be pickled, and brings along what it needs where it arrives.

    `decode` and `explain` may be called in other processes and on other machines, which see the
    inputs and nothing else; all else is asked in the process that called `Engine.run`. An
    item has an attribute `id`, a number that no other item has.

    Attributes
    ----------
    batch_size
        Images that are explained together. Batches are cut from a block's items by position
        (`batches`), so that what is beside an image doesn't depend on who was faster.
    timeout
        Seconds that decoding one item may take.
    """

    batch_size: int
    timeout: float

    @abstractmethod
    def pending(self) -> list[int]:
        """Return the numbers of the blocks that are still to be done, in order."""

    @abstractmethod
    def items(self, block: int) -> list[Item]:
        """Return the items of a block, in order."""

    @abstractmethod
    def decode(self, item: Item) -> Decoded:
        """Return what an item holds. Called in any process; no accelerator is used.

        Raises
        ------
        InputError
            If it can't be read. The engine makes a row of it with `failed`.
        """

    def decoder(self) -> Callable[[Item], Decoded]:
        """Return what does `decode`, to be sent to where the model is not needed.

        As it is, `decode` itself, and with it all of the work.
        """
        return self.decode

    @property
    def device(self) -> str:
        """Where the model is, as PyTorch names it."""
        return "cpu"

    def to(self, device: str) -> None:
        """Bring the model to a device; `explain` runs there.

        As it is, there is no model that would have to be moved.

        Raises
        ------
        CvxError
            If the device is not available.
        """

    @abstractmethod
    def explain(self, batch: Sequence[Decoded]) -> list[Row]:
        """Return a row for each of a batch, in order, where the model is.

        An item on which the model fails gets a row that says so. Nothing is raised for a single
        one, and a batch that is too large for the memory is run in halves.
        """

    @abstractmethod
    def failed(self, item: Item, status: str, message: str) -> Row:
        """Return the row of an item that was never explained.

        Parameters
        ----------
        status
            ``"bad input"``, or ``"crashed"`` for one that ended or blocked the process that decoded
            it, or ended the one that explained it where the engine outlives that.
        message
            Why, for people.
        """

    @abstractmethod
    def commit(self, block: int, rows: Sequence[Row]) -> None:
        """Keep the rows of a block, all or none. Called in the process that called `Engine.run`.

        Raises
        ------
        CvxError
            If it isn't one row for each of the block's items, or the disk refuses.
        """

    def batches(self, block: int) -> list[list[Item]]:
        """Return a block's items in the batches in which they are explained."""
        items = self.items(block)
        return [items[i : i + self.batch_size] for i in range(0, len(items), self.batch_size)]


class Listener:
    """Hears how the work goes, and may ask for it to end.

    Attributes
    ----------
    stop
        Whether to begin no further block. What has begun is finished.
    """

    stop: bool = False

    def begins(self, total: int) -> None:
        """Hear how many items are to be done."""

    def stage(self, text: str, total: int | None = None) -> None:
        """Hear what comes next beside the engine's work, and in how many steps if known."""

    def advanced(self, count: int) -> None:
        """Hear that further items have their row, which is not committed yet."""

    def done(self, block: int, rows: Sequence[Any]) -> None:
        """Hear that a block was committed."""


@dataclass(frozen=True)
class Engine(ABC):
    """Runs work to its end.

    Write an engine as a frozen dataclass whose fields are its parameters, checked in
    ``__post_init__``.
    """

    @abstractmethod
    def run(self, work: Work[Any, Any, Any], listener: Listener) -> None:
        """Do all that is pending, or what has begun if `listener.stop` turns true.

        Every item of a block has its row before the block is committed, whatever became of it: one
        that ends or blocks the process that decodes it is tried once more alone, and is then
        ``"crashed"``.

        Raises
        ------
        CvxError
            If the work can't go on. What was committed stays, and a later run resumes from it.
        """

    @property
    def name(self) -> str:
        """The class's name in lower case with hyphens."""
        return component_name(type(self).__name__)


def get_engine(name: str, /, **parameters: Any) -> Engine:
    """Return an engine by name; see `cvx_core.get_explainer`."""
    return get_component("engine", name, parameters, Engine)  # type: ignore[type-abstract]
