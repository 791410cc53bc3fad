"""Rows of a run: one for each input, and their Parquet schema."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cvx_core import UsageError, get_task, write_atomic
from cvx_diagnose.data.image_statistics import STATISTICS, TINY
from cvx_diagnose.data.items import Item
from cvx_diagnose.run.plan import Plan

ROWS = "rows"

Row = dict[str, Any]
"""A value for each column that has one; the others are null."""

OK, BAD, FAILED, CRASHED = "ok", "bad input", "model failure", "crashed"
STATUSES = (OK, BAD, FAILED, CRASHED)
MODEL_FAILED = (FAILED, CRASHED)
"""Statuses of valid images on which the model failed."""

NO_MAP, NO_TEST = "No map: ", "No region was tested: "
"""Beginnings of messages in rows with a prediction."""

MOST_ERRORS = 20
"""Maximum number of errors listed for one image."""

_SIDES = pa.list_(pa.float32(), 4)
_ERROR = pa.struct(
    [
        ("type", pa.string()),
        ("predicted", pa.int32()),
        ("true", pa.int32()),
        ("loss", pa.float32()),
        ("margin", pa.float32()),
        ("box", _SIDES),
        ("pixels", pa.int64()),
    ]
)
_REGION = pa.struct(
    [
        ("box", _SIDES),
        ("share", pa.float32()),
        ("predicted", pa.float32()),
        ("measured", pa.float32()),
        ("verdict", pa.string()),
    ]
)
_FIX = pa.struct(
    [("box", _SIDES), ("share", pa.float32()), ("fill", pa.string()), ("change", pa.float32())]
)


def schema_of(plan: Plan) -> pa.Schema:
    """Return the columns of a run's rows; docs/explanation/diagnose.md describes them."""
    fields: list[tuple[str, pa.DataType]] = [
        ("id", pa.int64()),
        ("path", pa.string()),
        ("status", pa.string()),
        ("message", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("extent", _SIDES),
        ("statistics", pa.struct([(name, pa.float32()) for name in STATISTICS])),
        ("tiny", pa.list_(pa.uint8(), 3 * TINY**2)),
        ("label", pa.int32()),
        ("predicted", pa.int32()),
        ("correct", pa.bool_()),
        ("confidence", pa.float32()),
        ("margin", pa.float32()),
        ("loss", pa.float32()),
        ("errors", pa.list_(_ERROR)),
        ("error_count", pa.int32()),
        ("features", _halves(plan.features_size)),
        ("tested", pa.bool_()),
        ("regions", pa.list_(_REGION)),
        ("control_change", pa.float32()),
        ("fix", _FIX),
        ("thumbnail", pa.binary()),
        ("seconds", pa.float32()),
    ]
    task = get_task(plan.task)
    fields += [(name, _type(form, plan)) for name, form in task.columns.items()]
    if plan.map_shape is not None:
        tensor = pa.fixed_shape_tensor(pa.float16(), plan.map_shape)
        fields.append(("margin_map", tensor))
        if task.exclusive:
            fields.append(("error_map", tensor))
        fields.append(("error_features", _halves(plan.map_features)))
    if plan.fine_features is not None:
        fields.append(("fine_features", _halves(plan.fine_features)))
    return pa.schema(fields)


def _type(form: Any, plan: Plan) -> pa.DataType:
    """Return the type of a column of a task; see `cvx_core.tasks.Task.columns`."""
    if isinstance(form, Mapping):
        return pa.struct([(name, _type(one, plan)) for name, one in form.items()])
    if isinstance(form, tuple):
        return pa.list_(_type(form[0], plan), len(form))
    if isinstance(form, list):
        return pa.list_(_type(form[0], plan))
    if form is np.float16:
        return _halves(plan.outputs)
    known = {int: pa.int64(), float: pa.float32(), bool: pa.bool_(), str: pa.string()}
    return known[form]


def _halves(size: int | None) -> pa.DataType:
    return pa.list_(pa.float16(), size)


def to_parquet(rows: Sequence[Row], schema: pa.Schema) -> bytes:
    """Return the bytes of a Parquet file of rows."""
    table = pa.table([_column(rows, field) for field in schema], schema=schema)
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def _column(rows: Sequence[Row], field: pa.Field) -> pa.Array:
    values = [row.get(field.name) for row in rows]
    type_ = field.type
    tensor = isinstance(type_, pa.BaseExtensionType)
    storage = type_.storage_type if tensor else type_
    if not pa.types.is_fixed_size_list(storage):
        return pa.array(values, type=type_)
    if any(one is not None and np.size(one) != storage.list_size for one in values):
        raise UsageError(
            f"Column {field.name} must have {storage.list_size} values in every row.",
            "This network's features depend on the image size: use images of one size.",
        )
    number = storage.value_type.to_pandas_dtype()
    zeros = np.zeros(storage.list_size, dtype=number)
    # Values beyond float16 become infinite rather than stop the run.
    with np.errstate(over="ignore"):
        flat = np.concatenate(
            [zeros if one is None else np.asarray(one).reshape(-1).astype(number) for one in values]
        )
    null = pa.array([one is None for one in values])
    lists = pa.FixedSizeListArray.from_arrays(
        pa.array(flat, type=storage.value_type), type=storage, mask=null
    )
    return pa.ExtensionArray.from_storage(type_, lists) if tensor else lists


_TESTED = b"cvx.tested"


def is_tested(file: Path) -> bool:
    """Return whether the regions of a block's errors were tested."""
    try:
        return _TESTED in (pq.read_schema(file).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def update_rows(file: Path, changed: Sequence[Row]) -> None:
    """Write a block's file again, with other values in some rows, as one whose errors are tested.

    Parameters
    ----------
    changed
        Rows with an ``id``, and the columns that change.

    Raises
    ------
    OutputError
        If the disk refuses; the file is kept.
    """
    table = pq.read_table(file)
    at = {number: k for k, number in enumerate(table["id"].to_pylist())}
    for name in dict.fromkeys(name for row in changed for name in row if name != "id"):
        values = table[name].to_pylist()
        for row in changed:
            values[at[row["id"]]] = row.get(name, values[at[row["id"]]])
        k = table.schema.get_field_index(name)
        field = table.schema.field(k)
        table = table.set_column(k, field, pa.array(values, field.type))
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _TESTED: b"1"})
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    write_atomic(file, stream.getvalue(), overwrite=True)


def block_file(folder: Path, block: int) -> Path:
    """Return the file of a block's rows."""
    return folder / ROWS / f"block-{block:06d}.parquet"


def failed(item: Item, status: str, message: str, **more: Any) -> Row:
    """Return the row of an input without a prediction."""
    return {"id": item.id, "path": item.display_path, "status": status, "message": message, **more}
