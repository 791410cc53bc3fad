"""Rows of fixes: what an input needs, by what is known of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cvx_diagnose import Run, diagnose
from cvx_diagnose.analysis.error_groups.groups import find_error_groups
from cvx_diagnose.analysis.fixes.fix_rows import find_fix_rows
from cvx_diagnose.analysis.slices.search import Slices
from cvx_diagnose.report.exports import FORMATS, export_fixes
from cvx_diagnose.report.fix_files import read_fixes, write_fixes
from cvx_engine.local import Local

from cvx_core import VisionModel

OLD, NEW, EXTRA = [1.0, 2.0, 13.0, 14.0], [5.0, 2.0, 17.0, 14.0], [20.0, 20.0, 30.0, 30.0]


@pytest.fixture
def exported(run: Run) -> tuple[Run, list[dict[str, Any]]]:
    """Return a run whose image 1 has two issues and image 2 a box too many; and the rows."""
    shifted = {"kind": "shifted", "box": OLD, "proposed_box": NEW, "label": 2, "suggested": 2}
    missing = {"kind": "missing", "box": EXTRA, "label": None, "suggested": 1}
    extra = {"kind": "superfluous", "box": EXTRA, "label": 1, "suggested": None}
    issues = [
        {**missing, "id": 1, "doubt": 0.95},
        {**shifted, "id": 1, "doubt": 0.85},
        {**extra, "id": 2, "doubt": 0.6},
    ]
    assert run.summary is not None
    found = {**run.summary, "withheld": ""}
    rows = find_fix_rows(run, found, issues, find_error_groups(run), Slices())
    write_fixes(run.folder, rows)
    return run, [row for row in rows if row["what"] == "relabel"]


def test_each_issue_of_a_box_has_a_row_and_a_shifted_one_the_new_box(exported: Any) -> None:
    run, rows = exported
    name = run.plan.classes
    assert [(row["id"], row["proposed"], row["box"], row["suspect"]) for row in rows] == [
        (1, name[1], EXTRA, 0.95),
        (1, name[2], NEW, 0.85),
        (2, None, EXTRA, 0.6),
    ]
    assert [row["evidence"] for row in rows] == [
        f"The annotation is missing: labeled nothing, predicted {name[1]}.",
        f"The annotation is shifted: {name[2]} labeled at 1, 2, 13, 14, predicted at 5, 2, 17, 14.",
        f"The annotation is superfluous: labeled {name[1]}.",
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_exports_have_every_issue_and_each_image_once(exported: Any, form: str) -> None:
    run, rows = exported
    text = export_fixes(run, form)
    everything = read_fixes(run.folder)
    if form == "csv":
        lines = [one for one in csv.DictReader(text.splitlines()) if one["what"] == "relabel"]
        assert [(int(one["id"]), one["proposed"]) for one in lines] == [
            (row["id"], row["proposed"] or "") for row in rows
        ]
    elif form == "cleanlab":
        lines = list(csv.DictReader(text.splitlines()))
        assert [int(one["id"]) for one in lines] == list(range(run.plan.items))
        doubted = [one for one in lines if one["is_label_issue"] == "True"]
        assert [(one["label_score"], one["predicted_label"]) for one in doubted] == [
            ("0.0500", rows[0]["proposed"]),
            ("0.4000", ""),
        ]
    elif form == "coco":
        document = json.loads(text)
        numbers = [one["id"] for one in document["images"]]
        assert len(numbers) == len(set(numbers))
        boxes = [one["bbox"] for one in document["annotations"] if one["image_id"] == 1]
        assert boxes == [[20, 20, 10, 10], [5, 2, 12, 12]]
        assert len(document["annotations"]) == len(everything)
    elif form == "label-studio":
        tasks = [one for one in json.loads(text) if one["data"]["what"] == "relabel"]
        said = [one["predictions"][0]["result"][0]["value"]["rectanglelabels"] for one in tasks]
        assert said == [[row["proposed"] or "relabel"] for row in rows]
    else:
        labels = json.loads(text)["labels"]
        assert len(labels) == len({row["id"] for row in everything})
        first = labels[rows[0]["path"].removesuffix(".png")]
        assert first["confidence"] == pytest.approx(0.95)
        assert labels[rows[2]["path"].removesuffix(".png")]["attributes"].get("proposed") is None


def test_an_unlabeled_copy_has_no_other_label(
    model: VisionModel, tree: Callable[..., Path], tmp_path: Path
) -> None:
    data = tree(2)
    names = sorted(str(one.relative_to(data)) for one in data.rglob("*.png"))
    for k in (0, 1):
        shutil.copy(data / names[k], data / f"copy-{k}.png")
    lines = [f"{name},{name.partition('/')[0]}" for name in names]
    other = next(line.partition(",")[2] for line in lines if not line.endswith("ant"))
    lines += ["copy-0.png,", f"copy-1.png,{other}"]
    (data / "table.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    engine = Local(workers=1)
    run = diagnose(model, data / "table.csv", tmp_path / "run", budget=0.0, engine=engine)
    evidence = {row["path"]: row["evidence"] for row in read_fixes(run.folder)}
    assert evidence["copy-0.png"] == f"The same file as {names[0]}."
    assert evidence["copy-1.png"] == f"The same file has another label: {names[1]}."
    assert evidence[names[1]] == "The same file has another label: copy-1.png."
    assert "another label" not in evidence.get(names[0], "")
