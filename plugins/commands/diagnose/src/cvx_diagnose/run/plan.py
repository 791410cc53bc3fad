"""What was asked of a run: with the same plan a run can be gone on with, with another it can't."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cvx_core import OutputError, UsageError

NAME = "plan.json"
SCHEMA = "cvx.plan/1"


@dataclass(frozen=True)
class Plan:
    """What was asked.

    Attributes
    ----------
    model, weights_sha256, task, classes, outputs
        The model's name, the digest of its weights, what it does, the names of its classes or
        None, and how many there are.
    data, manifest_sha256, items, total
        The data set's name, the digest of the manifest, how many inputs are taken and how many
        there are.
    limit, budget, block_size, batch_size
        See `cvx_diagnose.diagnose`.
    map_layer, map_shape
        Where the maps are made and how large they are, (h, w) cells; None where the network has no
        grid (`note` says why).
    map_features
        Length of the averaged activations under the map, or None.
    fine_layer, fine_features
        A place of finer grid, before the network has brought together what leads to one class, and
        how many channels it has; None where there is none.
    features, features_size, features_exact
        The layer that the features come from, how many there are, and whether the answer is a
        linear map of them.
    threshold, overlap
        Of a detector: the score from which it reports a box, and the overlap above which the better
        of two boxes suppresses the other, or None.
    note
        What a reader should know; may be empty.
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
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        """Rebuild it from `to_dict`."""
        given = {one.name: data[one.name] for one in fields(cls)}
        for name in ("classes", "map_shape"):
            given[name] = None if given[name] is None else tuple(given[name])
        return cls(**given)

    def to_json(self) -> bytes:
        """Return what `read` reads."""
        return json_bytes(self.to_dict())

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """Read the plan of a run.

        Raises
        ------
        OutputError
            If there is none that can be read.
        """
        file = folder / NAME
        try:
            data = json.loads(file.read_bytes())
            if data["schema"] != SCHEMA:
                raise OutputError(
                    f"{file} has the schema {data['schema']!r}, and this cvx reads {SCHEMA!r}.",
                    "Read it with the version of cvx that wrote it.",
                )
            return cls.from_dict(data)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{folder} holds no run of cvx diagnose: {type(error).__name__}: {error}.",
                "Name the folder that was given with -o.",
            ) from error

    def check_same(self, now: Plan, folder: Path) -> None:
        """Refuse to go on with another plan.

        Raises
        ------
        UsageError
            Saying in what they differ.
        """
        before, asked = self.to_dict(), now.to_dict()
        # A data set may have been named by another path.
        odd = [key for key in before if before[key] != asked[key] and key not in ("data", "note")]
        if odd:
            differences = "; ".join(
                f"{key} was {_short(before[key])} and is {_short(asked[key])}" for key in odd[:3]
            )
            raise UsageError(
                f"The run in {folder} was begun with another plan: {differences}.",
                "Go on with the same data, model and options, or begin anew with another -o.",
            )


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """Return JSON in UTF-8; file names that are not valid UTF-8 keep their bytes as ``\\udcXX``."""
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False, default=str)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
