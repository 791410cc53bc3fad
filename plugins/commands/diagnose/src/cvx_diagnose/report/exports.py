"""Exports of a run's fixes to the formats of other tools."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from cvx_core import UsageError
from cvx_core.images import SUFFIXES
from cvx_diagnose.analysis.error_groups.names import class_namer
from cvx_diagnose.report.fix_files import fixes_as_csv, read_fixes
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import Row

_LABELS = "label"


def export_fixes(run: Run, form: str, images: str = "") -> str:
    """Return a run's fixes as the text of a file for another tool.

    Parameters
    ----------
    run
        Finished.
    form
        One of `FORMATS`: ``csv``; ``cleanlab``, a CSV with the columns of
        ``Datalab.get_issues("label")`` for all inputs; ``coco``, JSON with an annotation for each
        row; ``label-studio``, JSON of tasks with pre-annotations; ``fiftyone``, JSON as of
        ``FiftyOneImageClassificationDataset``, in which the label is what is to be done.
        ``cleanlab`` and ``fiftyone`` have one entry for each input, of its strongest row.
    images
        Prefix of the paths of images: a folder or a URL. Not used by ``fiftyone``.

    Raises
    ------
    UsageError
        If the format is unknown, or takes no ``images``.
    OutputError
        If the run has no fixes.
    """
    if form not in FORMATS:
        raise UsageError(f"format must be one of {', '.join(FORMATS)}, got {form!r}.")
    return FORMATS[form](run, read_fixes(run.folder), images)


def _path(row: Mapping[str, Any], images: str) -> str:
    return f"{images.rstrip('/')}/{row['path']}" if images else str(row["path"])


def _attributes(row: Row) -> dict[str, Any]:
    """Return what the rows say, without what has a place of its own in every format."""
    kept = ("what", "proposed", "slices", "suspect", "shortcut", "group", "strength", "evidence")
    return {name: row[name] for name in kept if row[name] not in (None, [])}


def _sizes(run: Run) -> dict[int, Row]:
    label = ["label"] if "label" in run.schema.names else []
    table = run.table(["id", "path", "width", "height", "predicted" if label else "id", *label])
    return {row["id"]: row for row in table.to_pylist()}


def _strongest(rows: list[Row]) -> dict[int, Row]:
    """Return the first row of each input by its id: the one with the strongest evidence."""
    found: dict[int, Row] = {}
    for row in rows:
        found.setdefault(row["id"], row)
    return found


def _csv(run: Run, rows: list[Row], images: str) -> str:  # noqa: ARG001
    return fixes_as_csv([{**row, "path": _path(row, images)} for row in rows])


def _cleanlab(run: Run, rows: list[Row], images: str) -> str:
    name = class_namer(run.plan.classes)
    fixes = _strongest(rows)
    stream = io.StringIO()
    writer = csv.writer(stream)
    head = ["id", "path", "is_label_issue", "label_score", "given_label", "predicted_label"]
    writer.writerow([*head, "is_exact_duplicate_issue"])
    for number, row in sorted(_sizes(run).items()):
        fix: Row = fixes.get(number, {})
        relabel = fix.get("what") == "relabel"
        given, predicted = row.get("label"), row.get("predicted")
        likely = fix["proposed"] or "" if relabel else "" if predicted is None else name(predicted)
        writer.writerow(
            [
                number,
                _path(row, images),
                relabel,
                # Known of the suspected labels alone.
                f"{1 - fix['suspect']:.4f}" if relabel else "",
                "" if given is None else name(given),
                likely,
                fix.get("what") == "remove duplicate",
            ]
        )
    return stream.getvalue()


def _coco(run: Run, rows: list[Row], images: str) -> str:
    sizes = _sizes(run)
    kinds = list(dict.fromkeys(row["proposed"] or row["what"] for row in rows))
    numbers = {kind: k for k, kind in enumerate(kinds, 1)}
    annotations = []
    for k, row in enumerate(rows, 1):
        left, top, right, bottom = _box(row, sizes[row["id"]])
        width, height = right - left, bottom - top
        annotations.append(
            {
                "id": k,
                "image_id": row["id"],
                "category_id": numbers[row["proposed"] or row["what"]],
                "bbox": [left, top, width, height],
                "area": width * height,
                "iscrowd": 0,
                "attributes": _attributes(row),
            }
        )
    shown = [
        {
            "id": row["id"],
            "file_name": _path(row, images),
            "width": sizes[row["id"]]["width"] or 0,
            "height": sizes[row["id"]]["height"] or 0,
        }
        for row in _strongest(rows).values()
    ]
    categories = [{"id": number, "name": kind} for kind, number in numbers.items()]
    return _json({"images": shown, "annotations": annotations, "categories": categories})


def _box(row: Row, size: Row) -> list[float]:
    """Return a row's box, or that of the whole image."""
    return list(row["box"] or (0.0, 0.0, float(size["width"] or 0), float(size["height"] or 0)))


def _label_studio(run: Run, rows: list[Row], images: str) -> str:
    sizes = _sizes(run)
    tasks = []
    for row in rows:
        size = sizes[row["id"]]
        said = row["proposed"] or row["what"]
        result: dict[str, Any] = {
            "from_name": _LABELS,
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [said]},
        }
        if row["box"] is not None and size["width"]:
            left, top, right, bottom = row["box"]
            across, down = 100 / size["width"], 100 / size["height"]
            value = {
                "x": left * across,
                "y": top * down,
                "width": (right - left) * across,
                "height": (bottom - top) * down,
                "rectanglelabels": [said],
            }
            result |= {"type": "rectanglelabels", "value": value}
            result |= {"original_width": size["width"], "original_height": size["height"]}
        data: dict[str, Any] = {"image": _path(row, images), "id": row["id"]}
        tasks.append(
            {
                "data": data | _attributes(row),
                "predictions": [
                    {"model_version": "cvx", "score": row["strength"], "result": [result]}
                ],
            }
        )
    return _json(tasks)


def _fiftyone(run: Run, rows: list[Row], images: str) -> str:  # noqa: ARG001
    if images:
        raise UsageError(
            "A data set for FiftyOne has the paths below the folder of the images.",
            "Leave out --images, and give that folder to FiftyOne as data_path.",
        )
    labels = {
        _key(row["path"]): {
            "label": row["what"],
            "confidence": row["strength"],
            "attributes": {k: v for k, v in _attributes(row).items() if k != "what"},
        }
        for row in _strongest(rows).values()
    }
    return _json({"classes": None, "labels": labels})


def _key(path: str) -> str:
    """Return a path without the ending of an image; of a row of a Parquet file all of it."""
    found = PurePosixPath(path)
    return str(found.with_suffix("") if found.suffix.lower() in SUFFIXES else found)


def _json(document: Any) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Run, list[Row], str], str]] = {
    "cleanlab": _cleanlab,
    "coco": _coco,
    "csv": _csv,
    "fiftyone": _fiftyone,
    "label-studio": _label_studio,
}
"""Formats by name."""

ENDINGS = {"cleanlab": ".csv", "csv": ".csv"}
"""Endings of files; of all others it is ``.json``."""


def export_file(folder: Path, form: str) -> Path:
    """Return the usual file of an export."""
    return folder / f"fixes-{form}{ENDINGS.get(form, '.json')}"
