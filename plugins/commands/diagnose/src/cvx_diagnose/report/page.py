"""The report: one page, and beside it a small picture and a map of each error."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvx_core import OutputError, printable, write_atomic
from cvx_core.explanations import VIK
from cvx_diagnose.analysis.advice import verified
from cvx_diagnose.analysis.error_groups.groups import Causes
from cvx_diagnose.report.tables import confusions, kinds, measures
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import Row

PAGE, PICTURES = "index.html", "report"

MOST = 20_000
"""Errors on the page; the costliest, where there are more."""

_SCRIPTS = ("things.js", "overview.js", "errors.js", "start.js")
_COLUMNS = (
    *("id", "path", "errors", "confidence", "loss", "margin", "width", "height", "extent"),
    *("tested", "regions", "usual", "fix", "thumbnail"),
)


def write_report(run: Run, summary: dict[str, Any], causes: Causes) -> Path:
    """Write ``index.html`` and the pictures that it shows into the folder of a run.

    Parameters
    ----------
    run, causes
        A finished run and the groups of its errors.
    summary
        What ``summary.json`` holds.

    Returns
    -------
    pathlib.Path
        Of the page.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    kept = _costliest(run)
    group = dict(zip(causes.ids.tolist(), causes.groups.tolist(), strict=True))
    suspects = {one["id"] for one in summary["label_suspects"]["listed"]}
    maps = ["margin_map"] if run.plan.map_shape is not None else []
    errors = []
    for block in run.blocks([*_COLUMNS, "right", *maps]):
        wrong = block.filter([one is False for one in block["right"].to_pylist()])
        drawn = run.numbers(wrong, "margin_map") if maps else None
        for i, row in enumerate(wrong.drop_columns(maps).to_pylist()):
            if row["id"] not in kept:
                continue
            values = None if drawn is None else drawn[i]
            _draw(run.folder / PICTURES, row, values)
            there = values is not None and bool(np.isfinite(values).all())
            errors.append(_error(row, group.get(row["id"]), row["id"] in suspects, there))
    count = len(causes.ids)
    document = _legible(_document(run, summary, errors, max(0, count - len(errors))))
    return write_atomic(run.folder / PAGE, _page(document).encode("utf-8"), overwrite=True)


def _costliest(run: Run) -> set[int]:
    table = run.table(["id", "loss"], wrong=True)
    rows = sorted(
        zip(table["id"].to_pylist(), table["loss"].to_pylist(), strict=True),
        key=lambda pair: (-(pair[1] or 0.0), pair[0]),
    )
    return {number for number, _ in rows[:MOST]}


def _draw(folder: Path, row: Row, values: npt.NDArray[np.float32] | None) -> None:
    """Write an error's pictures; what is there already stays, because rows never change."""
    wanted = {
        "jpg": row["thumbnail"],
        "png": None if values is None else coloured(values),
    }
    for suffix, data in wanted.items():
        file = folder / f"{row['id']}.{suffix}"
        if data is None or file.exists():
            continue
        try:
            folder.mkdir(exist_ok=True)
            # A temporary name: a picture is there whole or not at all. Thousands are not worth
            # a flush to disk each, as anybody can draw them again.
            temporary = file.with_name(f".cvx-{file.name}")
            temporary.write_bytes(data)
            temporary.replace(file)
        except OSError as error:
            raise OutputError(
                f"{file} could not be written: {error.strerror}.",
                "Make room and go on with --resume; the rows are safe.",
            ) from error


def coloured(values: npt.NDArray[np.float32]) -> bytes:
    """Return a map as a PNG, a pixel for each cell: red for, blue against, clear where nothing is.

    Parameters
    ----------
    values
        (h, w); the largest in size has the strongest colour.
    """
    values = np.nan_to_num(values)
    span = float(np.abs(values).max()) or 1.0
    share = values / span
    colours = VIK[np.clip(np.round(127.5 + 127.5 * share), 0, 255).astype(int)]
    # As cvx_core.explanations.heatmap.opacity, but fainter: what lies under the map must be seen
    # on a thumbnail.
    alpha = np.round(255 * 0.65 * np.abs(share) ** 0.7).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.dstack([colours, alpha])).save(stream, "PNG")
    return stream.getvalue()


def _error(row: Row, group: int | None, suspect: bool, mapped: bool) -> Row:
    worst = row["errors"][0]
    size = None if row["width"] is None else [row["width"], row["height"]]
    whole = [0, 0, *(size or (1, 1))]
    return {
        "id": row["id"],
        "path": row["path"],
        "type": worst["type"],
        "true": worst["true"],
        "predicted": worst["predicted"],
        "box": worst["box"],
        "confidence": row["confidence"],
        "loss": row["loss"],
        "margin": row["margin"],
        "size": size,
        "extent": row["extent"] or whole,
        "located": row["extent"] is not None,
        "map": mapped,
        "files": row["thumbnail"] is not None,
        "regions": row["regions"] if row["tested"] else None,
        "usual": row["usual"],
        "fix": row["fix"],
        "group": -1 if group is None else group,
        "suspect": suspect,
    }


def _document(
    run: Run, summary: dict[str, Any], errors: list[Row], left_out: int
) -> dict[str, Any]:
    right = summary["right"]
    wrong = right["of"] - right["right"]
    inputs = f"{summary['inputs']:,} inputs of {summary['data']}"
    return {
        "title": f"What {summary['model']} gets wrong",
        "about": f"{inputs} · {wrong:,} with an error",
        "task": summary["task"],
        "classes": summary["classes"],
        "files": PICTURES,
        "advice": summary["advice"],
        "numbers": {
            "right": right,
            "counts": summary["counts"],
            "calibration": summary.get("calibration", {}).get("ece"),
            "tests": summary["interventions"],
            "measures": measures(summary),
        },
        "groups": summary["causes"],
        "shortcuts": [
            one for one in (summary["shortcuts"] or {"found": ()})["found"] if verified(one)
        ],
        "kinds": kinds(summary),
        "matrix": confusions(run),
        "suspects": summary["label_suspects"],
        "compared": summary["compared"],
        "fixes": summary["fixes"],
        "culprits": summary["culprits"],
        "errors": errors,
        "left_out": left_out,
    }


def _page(document: dict[str, Any]) -> str:
    style = _read("page.css")
    script = "\n" + "\n".join(_read(name) for name in _SCRIPTS)
    # Pictures lie beside the page, in whatever folder or on whatever server it is opened.
    policy = "; ".join(
        (
            "default-src 'none'",
            "img-src 'self' data: file:",
            f"script-src '{_sha256(script)}'",
            f"style-src '{_sha256(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    page = _read("page.html")
    parts = {"POLICY": policy, "STYLE": style, "SCRIPT": script, "DATA": text}
    # Cut at the marks before anything is put in, so that no text from outside is taken for a mark.
    pieces = [page]
    for mark in parts:
        pieces = [piece for one in pieces for piece in _cut(one, mark)]
    return "".join(parts.get(piece, piece) for piece in pieces)


def _cut(text: str, mark: str) -> list[str]:
    before, found, after = text.partition(mark)
    return [before, found, after] if found else [text]


def _legible(value: Any) -> Any:
    """Make text printable, and put None where a number is not finite, which JSON lacks."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _legible(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_legible(item) for item in value]
    return value


def _read(name: str) -> str:
    return files("cvx_diagnose.report").joinpath("assets", name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
