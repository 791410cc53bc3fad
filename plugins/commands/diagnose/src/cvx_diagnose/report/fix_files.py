"""Files of fixes, ``fixes.csv`` and ``fixes.parquet``: rows of what inputs need."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cvx_core import OutputError, printable, write_atomic
from cvx_diagnose.run.rows import Row

CSV, PARQUET = "fixes.csv", "fixes.parquet"

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("path", pa.string()),
        ("what", pa.string()),
        ("proposed", pa.string()),
        ("box", pa.list_(pa.float32(), 4)),
        ("slices", pa.list_(pa.string())),
        ("suspect", pa.float32()),
        ("shortcut", pa.string()),
        ("group", pa.int64()),
        ("strength", pa.float32()),
        ("evidence", pa.string()),
    ]
)


_FOR_PEOPLE = ("slices", "shortcut", "evidence")
"""Columns of text that people read. In these nothing begins like a formula of a spreadsheet; paths
and classes are for programs, and stay as they are."""


def write_fixes(folder: Path, rows: Sequence[Row]) -> None:
    """Write both files into the folder of a run.

    Parameters
    ----------
    rows
        Of `cvx_diagnose.analysis.fixes.fix_rows.find_fix_rows`.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), stream, compression="zstd")
    write_atomic(folder / PARQUET, stream.getvalue(), overwrite=True)
    write_atomic(folder / CSV, fixes_as_csv(rows).encode(), overwrite=True)


def read_fixes(folder: Path) -> list[Row]:
    """Return the rows in the folder of a run.

    Raises
    ------
    OutputError
        If there are none.
    """
    file = folder / PARQUET
    try:
        rows: list[Row] = pq.read_table(file, schema=SCHEMA).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise OutputError(
            f"No fixes in {folder}: {error}.",
            "Give the folder of a finished run; --resume on it writes the fixes again.",
        ) from error
    return rows


def fixes_as_csv(rows: Sequence[Row]) -> str:
    """Return rows as the text of a CSV file; boxes and slices are separated by semicolons."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(SCHEMA.names)
    for row in rows:
        cells = {name: _text(row[name]) for name in SCHEMA.names}
        writer.writerow([*(cells | {name: _plain(cells[name]) for name in _FOR_PEOPLE}).values()])
    return stream.getvalue()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ";".join(f"{one:.1f}" if isinstance(one, float) else str(one) for one in value)
    return str(value)


def _plain(text: str) -> str:
    """Return text that a spreadsheet does not run as a formula (OWASP, CSV injection)."""
    text = printable(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
