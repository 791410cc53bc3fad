"""Page of a run: ``index.html`` with a thumbnail and a map of each error."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvx_core import OutputError, printable, write_atomic
from cvx_core.explanations import VIK
from cvx_diagnose.analysis.advice import verified_shortcuts
from cvx_diagnose.analysis.error_groups.groups import ErrorGroups
from cvx_diagnose.analysis.slices.search import Slices, slices_of_each
from cvx_diagnose.report.feature_map import find_feature_map
from cvx_diagnose.report.tables import confusion_table, error_table, task_metrics
from cvx_diagnose.run.results import Run
from cvx_diagnose.run.rows import Row

PAGE, IMAGES = "index.html", "report"

MOST = 20_000
"""Maximum number of errors on the page, the most costly first."""

_SCRIPTS = ("things.js", "overview.js", "selection.js", "errors.js", "map.js", "start.js")
_COLUMNS = (
    *("id", "path", "errors", "confidence", "loss", "margin", "width", "height", "extent"),
    *("tested", "regions", "control_change", "fix", "thumbnail", "message"),
)


def write_report(
    run: Run, summary: dict[str, Any], error_groups: ErrorGroups, slices: Slices
) -> None:
    """Write ``index.html`` and its images into the folder of a run.

    Parameters
    ----------
    run, error_groups, slices
        A finished run, the groups of its errors, and its slices.
    summary
        Contents of ``summary.json``.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    kept = _costliest(run)
    group = dict(zip(error_groups.ids.tolist(), error_groups.groups.tolist(), strict=True))
    of_slices = slices_of_each(slices)
    issues = {one["id"] for one in summary["label_issues"]["listed"]}
    maps = ["margin_map"] if run.plan.map_shape is not None else []
    errors = []
    for block in run.blocks([*_COLUMNS, "correct", *maps]):
        wrong = block.filter([one is False for one in block["correct"].to_pylist()])
        drawn = run.numbers(wrong, "margin_map") if maps else None
        for i, row in enumerate(wrong.drop_columns(maps).to_pylist()):
            if row["id"] not in kept:
                continue
            values = None if drawn is None else drawn[i]
            _draw(run.folder / IMAGES, row, values)
            mapped = values is not None and bool(np.isfinite(values).all())
            errors.append(
                {
                    **_error(row, group.get(row["id"]), row["id"] in issues, mapped),
                    "slices": of_slices.get(row["id"], []),
                }
            )
    count = len(error_groups.ids)
    document = _document(run, summary, errors, max(0, count - len(errors)))
    found = find_feature_map(run, kept)
    document["map"] = None if found is None else asdict(found)
    document = _printable_json(document)
    write_atomic(run.folder / PAGE, _page(document).encode("utf-8"), overwrite=True)


def _costliest(run: Run) -> set[int]:
    table = run.table(["id", "loss"], wrong=True)
    rows = sorted(
        zip(table["id"].to_pylist(), table["loss"].to_pylist(), strict=True),
        key=lambda pair: (-(pair[1] or 0.0), pair[0]),
    )
    return {number for number, _ in rows[:MOST]}


def _draw(folder: Path, row: Row, values: npt.NDArray[np.float32] | None) -> None:
    """Write an error's images; existing ones are kept, since rows never change."""
    wanted = {
        "jpg": row["thumbnail"],
        "png": None if values is None else color_map(values),
    }
    for suffix, data in wanted.items():
        file = folder / f"{row['id']}.{suffix}"
        if data is None or file.exists():
            continue
        try:
            folder.mkdir(exist_ok=True)
            # A temporary name, so that an image is never incomplete. No flush to disk: there
            # are thousands, and they can be drawn again.
            temporary = file.with_name(f".cvx-{file.name}")
            temporary.write_bytes(data)
            temporary.replace(file)
        except OSError as error:
            raise OutputError(
                f"Can't write {file}: {error.strerror}.",
                "Free disk space and resume with --resume; the rows are safe.",
            ) from error


def color_map(values: npt.NDArray[np.float32]) -> bytes:
    """Return a map as a PNG, one pixel per position: red supports, blue opposes, 0 is transparent.

    Parameters
    ----------
    values
        (h, w), normalized by the largest magnitude.
    """
    values = np.nan_to_num(values)
    span = float(np.abs(values).max()) or 1.0
    share = values / span
    colors = VIK[np.clip(np.round(127.5 + 127.5 * share), 0, 255).astype(int)]
    # Fainter than in cvx_core.explanations.heatmap: the thumbnail must stay visible.
    alpha = np.round(255 * 0.65 * np.abs(share) ** 0.7).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.dstack([colors, alpha])).save(stream, "PNG")
    return stream.getvalue()


def _error(row: Row, group: int | None, label_issue: bool, mapped: bool) -> Row:
    worst = row["errors"][0]
    size = None if row["width"] is None else [row["width"], row["height"]]
    whole = [0, 0, *(size or (1, 1))]
    return {
        **{name: row[name] for name in ("id", "path", "confidence", "loss", "margin", "fix")},
        **{name: worst[name] for name in ("type", "true", "predicted", "box")},
        "size": size,
        "extent": row["extent"] or whole,
        "located": row["extent"] is not None,
        "map": mapped,
        "message": row["message"],
        "files": row["thumbnail"] is not None,
        "regions": row["regions"] if row["tested"] else None,
        "control_change": row["control_change"],
        "group": -1 if group is None else group,
        "label_issue": label_issue,
    }


def _document(
    run: Run, summary: dict[str, Any], errors: list[Row], left_out: int
) -> dict[str, Any]:
    accuracy = summary["accuracy"]
    wrong = accuracy["total"] - accuracy["correct"]
    same = (
        "task",
        "classes",
        "advice",
        "withheld",
        "label_issues",
        "comparison",
        "fixes",
        "influential_images",
    )
    inputs = f"{summary['inputs']:,} inputs of {summary['data']}"
    return {
        "title": f"Errors of {summary['model']}",
        "about": f"{inputs} · {wrong:,} with an error",
        **{name: summary[name] for name in same},
        "files": IMAGES,
        "numbers": {
            "accuracy": accuracy,
            "counts": summary["counts"],
            "calibration": summary.get("calibration", {}).get("ece"),
            "region_tests": summary["region_tests"],
            "measures": task_metrics(summary),
            "without_map": summary["without_map"],
        },
        "groups": summary["error_groups"],
        "slices": summary["slices"]["found"],
        "shortcuts": verified_shortcuts(summary),
        "error_table": error_table(summary),
        "confusions": confusion_table(run),
        "errors": errors,
        "left_out": left_out,
    }


def _page(document: dict[str, Any]) -> str:
    style = _read("page.css")
    script = "\n" + "\n".join(_read(name) for name in _SCRIPTS)
    # Images are loaded from the page's own folder or server only.
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
    page = Template(_read("page.html"))
    return page.substitute(policy=policy, style=style, script=script, data=text)


def _printable_json(value: Any) -> Any:
    """Make text printable, and replace numbers that are not finite, which JSON lacks, by None."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _printable_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable_json(item) for item in value]
    return value


def _read(name: str) -> str:
    return files("cvx_diagnose.report").joinpath("assets", name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
