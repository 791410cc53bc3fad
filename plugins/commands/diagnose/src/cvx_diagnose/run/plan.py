"""Plan of a run: its configuration; `--resume` requires an identical one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cvx_core import OptionError, OutputError, UsageError

NAME = "plan.json"
SCHEMA = "cvx.plan/3"


@dataclass(frozen=True)
class RunOptions:
    """Options of a run; see `cvx_diagnose.diagnose` for the attributes.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    limit: int | None
    budget: float | None
    block_size: int
    batch_size: int
    shard: tuple[int, int]
    timeout: float

    def __post_init__(self) -> None:
        i, n = self.shard
        checks = {
            f"limit must be at least 1, got {self.limit}": self.limit is None or self.limit >= 1,
            f"shard must be (i, n) with 0 <= i < n, got {self.shard}": 0 <= i < n,
            f"budget must be 0 or more, got {self.budget}": 0 <= (self.budget or 0) < float("inf"),
            f"block_size must be at least 1, got {self.block_size}": self.block_size >= 1,
            f"batch_size must be at least 1, got {self.batch_size}": self.batch_size >= 1,
            f"timeout must be > 0 seconds, got {self.timeout}": self.timeout > 0,
        }
        for message, valid in checks.items():
            if not valid:
                raise OptionError(f"{message}.")


@dataclass(frozen=True)
class Plan:
    """The configuration of a run.

    Attributes
    ----------
    model, weights_sha256, task, classes, outputs
        The model's name, the digest of its weights, its task, the names of its classes or None,
        and their number.
    data, manifest_sha256, items, total
        The data set's name, the digest of the manifest, and the number of inputs in the run and
        in the data set.
    limit, budget, block_size, batch_size
        See `cvx_diagnose.diagnose`.
    map_layer, map_shape
        The layer of the maps and their shape (h, w); None where the network has no feature maps
        (`note` says why).
    map_features
        Number of channels of that layer, or None.
    fine_layer, fine_features
        A layer of higher resolution, before causes of one wrong prediction become alike, and its
        number of channels; None where there is none.
    features, features_size, features_exact
        The layer of the features, their number, and whether the logits are a linear map of them.
    threshold, overlap
        For a detector: its score threshold, and the overlap of its non-maximum suppression or
        None.
    note
        A remark for readers; may be empty.
    """

    model: str
    weights_sha256: str
    task: str
    classes: tuple[str, ...] | None = field(repr=False)
    outputs: int
    data: str
    manifest_sha256: str
    items: int
    total: int
    limit: int | None
    budget: float
    block_size: int
    batch_size: int
    map_layer: str | None
    map_shape: tuple[int, int] | None
    map_features: int | None
    features: str
    features_size: int
    features_exact: bool
    fine_layer: str | None = None
    fine_features: int | None = None
    threshold: float | None = None
    overlap: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """Read the plan of a run.

        Raises
        ------
        OutputError
            If there is none, or another version of cvx wrote it.
        """
        file = folder / NAME
        try:
            data = json.loads(file.read_bytes())
            if data["schema"] != SCHEMA:
                raise OutputError(
                    f"{file} was written by another version of cvx: it has the schema "
                    f"{data['schema']!r}, this version reads {SCHEMA!r}.",
                    "Run cvx diagnose again with this version.",
                )
            given = {one.name: data[one.name] for one in fields(cls)}
            for name in ("classes", "map_shape"):
                given[name] = None if given[name] is None else tuple(given[name])
            return cls(**given)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"No run of cvx diagnose in {folder}: {type(error).__name__}: {error}.",
                "Give the folder that was given to -o.",
            ) from error

    def check_same(self, new: Plan, folder: Path) -> None:
        """Check that a run can be resumed with another plan.

        Raises
        ------
        UsageError
            Naming the differences, if there are any.
        """
        old, now = self.to_dict(), new.to_dict()
        # The same data may be given by another path.
        changed = [key for key in old if old[key] != now[key] and key not in ("data", "note")]
        if changed:
            differences = "; ".join(
                f"{key} was {_short(old[key])}, now {_short(now[key])}" for key in changed[:3]
            )
            raise UsageError(
                f"The run in {folder} has another configuration: {differences}.",
                "Resume with the same data, model and options, or choose another folder with -o.",
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
