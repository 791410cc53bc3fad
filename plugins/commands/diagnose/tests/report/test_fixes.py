"""Fixes of a run: files with a row for each input in need of one, and exports of them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from cvx_diagnose import Run
from cvx_diagnose.analysis.error_groups.groups import find_error_groups
from cvx_diagnose.analysis.fixes.fix_rows import find_fix_rows
from cvx_diagnose.analysis.slices.search import Slices
from cvx_diagnose.command import command
from cvx_diagnose.export_command import FORMATS as OFFERED
from cvx_diagnose.report.exports import FORMATS, export_fixes
from cvx_diagnose.report.fix_files import fixes_as_csv, read_fixes

from cvx_core import OutputError, UsageError


def test_each_input_has_the_row_that_it_needs_in_both_files(run: Run) -> None:
    rows = {row["path"]: row for row in read_fixes(run.folder)}
    assert rows["cat/4.png"]["what"] == "repair file"
    assert "4.png" in rows["cat/4.png"]["evidence"]
    assert (rows["bee/copy.png"]["what"], rows["bee/copy.png"]["evidence"]) == (
        "remove duplicate",
        "The same file as bee/0.png.",
    )
    for path, other in (("bee/1.png", "cat/copy.png"), ("cat/copy.png", "bee/1.png")):
        assert rows[path]["what"] == "review"
        assert rows[path]["evidence"] == f"The same file has another label: {other}."
    others = {"cat/4.png", "bee/copy.png", "bee/1.png", "cat/copy.png"}
    wrong = {row["path"] for row in run.table(["path"], wrong=True).to_pylist()} - others
    assert wrong | others == set(rows)
    assert {rows[path]["what"] for path in wrong} <= {"collect", "review", "mask"}
    table = pq.read_table(run.folder / "fixes.parquet").to_pylist()
    with (run.folder / "fixes.csv").open(newline="") as text:
        lines = list(csv.DictReader(text))
    assert [(int(one["id"]), one["what"]) for one in lines] == [
        (one["id"], one["what"]) for one in table
    ]


def test_an_error_carries_its_slice_shortcut_and_suspicion(run: Run) -> None:
    assert run.summary is not None
    groups = find_error_groups(run)
    wrong = groups.ids.tolist()
    accuracy = {"right": 1, "total": 10, "value": 0.1, "low": 0.0, "high": 0.4}
    one: dict[str, Any] = {
        "number": 0,
        "name": "dark images",
        "count": 10,
        "fix": "augment the training data with brightness",
        "inside": accuracy,
        "outside": {**accuracy, "value": 0.9},
    }
    slices = Slices([one], [groups.ids], [groups.ids])
    issue = {"id": wrong[0], "label": 0, "suggested": 1, "probability": 0.9, "doubt": 0.8}
    found = {**run.summary, "withheld": ""}
    rows = {row["id"]: row for row in find_fix_rows(run, found, [issue], groups, slices)}
    first = rows[wrong[0]]
    assert (first["what"], first["proposed"], first["suspect"]) == ("relabel", "bee", 0.8)
    assert first["slices"] == ["dark images"]
    augmented = [row for row in rows.values() if row["what"] == "augment"]
    assert len(augmented) >= len(wrong) - 4
    assert augmented[0]["strength"] == pytest.approx(0.8)
    shortcut = {
        "number": 0,
        "name": "a seal",
        "groups": [group["number"] for group in groups.described],
        "verdict": "verified",
        "transplants": {"effect": 0.5},
    }
    found["shortcuts"] = {"found": [shortcut]}
    rows = {row["id"]: row for row in find_fix_rows(run, found, [issue], groups, slices)}
    masked = [row for row in rows.values() if row["what"] == "mask"]
    assert len(masked) == len(augmented)
    assert {(row["shortcut"], row["strength"]) for row in masked} == {("a seal", 0.5)}
    # While the set-up is broken errors mean nothing.
    withheld = find_fix_rows(run, {**found, "withheld": "later"}, [], groups, slices)
    assert {row["what"] for row in withheld} == {"repair file", "remove duplicate", "review"}


@pytest.mark.parametrize("path", ["=1+1.png", "@a  b.png", "-\r\n.png", "\t+.png", 'a,"b";.png'])
def test_a_table_has_true_paths_and_no_formula_in_text_for_people(path: str) -> None:
    row = dict.fromkeys(("suspect", "group"))
    row |= {"id": 1, "path": path, "what": "relabel", "strength": 0.5, "proposed": "-1"}
    row |= {"evidence": "\t=2+3", "slices": ["@images", "other"], "shortcut": "+a patch"}
    text = fixes_as_csv([{**row, "box": [1.0, 2.0, 3.5, 4.0]}])
    [read] = csv.DictReader(io.StringIO(text, newline=""))
    assert (read["path"], read["proposed"], read["box"]) == (path, "-1", "1.0;2.0;3.5;4.0")
    people = [read[name] for name in ("slices", "shortcut", "evidence")]
    assert people == ["'@images;other", "'+a patch", "'=2+3"]


def test_exports_hold_every_row(run: Run) -> None:
    rows = read_fixes(run.folder)
    rows[0] |= {"box": [12.0, 10.0, 36.0, 30.0], "proposed": "ant"}
    sizes = {row["id"]: row for row in run.table(["id", "width", "height"]).to_pylist()}
    whole = [row["id"] for row in rows if sizes[row["id"]]["width"]]
    coco = json.loads(FORMATS["coco"](run, rows, "/data"))
    assert [one["image_id"] for one in coco["annotations"]] == [row["id"] for row in rows]
    assert {one["file_name"] for one in coco["images"]} == {f"/data/{row['path']}" for row in rows}
    assert coco["annotations"][0]["bbox"] == [12.0, 10.0, 24.0, 20.0]
    names = {one["id"]: one["name"] for one in coco["categories"]}
    assert names[coco["annotations"][0]["category_id"]] == "ant"
    box = next(one for one in coco["annotations"] if one["image_id"] == whole[-1])["bbox"]
    assert box == [0, 0, 48, 40]

    k = next(k for k, row in enumerate(rows) if row["id"] in whole)
    rows[k] |= {"box": [12.0, 10.0, 36.0, 30.0], "proposed": "ant"}
    tasks = json.loads(FORMATS["label-studio"](run, rows, "https://host/data/"))
    assert tasks[k]["data"]["image"] == f"https://host/data/{rows[k]['path']}"
    # In percent of an image of 48 x 40.
    [result] = tasks[k]["predictions"][0]["result"]
    assert result["value"] == {
        "x": 25.0,
        "y": 25.0,
        "width": 50.0,
        "height": 50.0,
        "rectanglelabels": ["ant"],
    }
    rows[-1]["path"] = "train-0.parquet#3"
    labels = json.loads(FORMATS["fiftyone"](run, rows, ""))["labels"]
    assert labels["train-0.parquet#3"]["label"] == rows[-1]["what"]
    assert labels["cat/4"]["label"] == "repair file"
    assert len(labels) == len(rows)

    lines = list(csv.DictReader(FORMATS["cleanlab"](run, rows, "").splitlines()))
    assert [int(one["id"]) for one in lines] == list(range(run.plan.items))
    assert [one["path"] for one in lines if one["is_exact_duplicate_issue"] == "True"] == [
        "bee/copy.png"
    ]


def test_the_command_exports_a_run_and_keeps_existing_files(run: Run, tmp_path: Path) -> None:
    assert sorted(FORMATS) == sorted(OFFERED)
    folder = str(run.folder)
    for form in OFFERED:
        file = tmp_path / f"{form}.txt"
        command(["export", folder, "--to", form, "-o", str(file)], standalone_mode=False)
        assert file.read_bytes().decode() == export_fixes(run, form)
    with pytest.raises(OutputError, match="exists"):
        command(["export", folder, "--to", "csv", "-o", str(file)], standalone_mode=False)
    assert "label-studio" in CliRunner().invoke(command, ["export", "--help"]).output
    with pytest.raises(UsageError, match="format must be one of"):
        export_fixes(run, "xml")
    with pytest.raises(UsageError, match="below the folder") as raised:
        export_fixes(run, "fiftyone", "/data")
    assert "Leave out --images" in str(raised.value.hint)
    (run.folder / "fixes.parquet").unlink()
    with pytest.raises(OutputError, match="--resume"):
        export_fixes(run, "csv")
