"""Folders, patterns and files of labels on the command line, and packages of unknown commands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from cvx_core import install_command
from cvx_core.cli import program

if TYPE_CHECKING:
    from conftest import Outcome

LITTLE = str(Path(__file__).parent / "little.py")


@pytest.fixture
def photos(installed: Callable[..., Outcome]) -> None:
    """Two folders of one image each, in the folder of the command's run."""
    Path("set").mkdir()
    os.chdir("set")
    for name, color in (("red fox", "red"), ("blue jay", "blue")):
        Path(name).mkdir()
        Image.new("RGB", (8, 8), color).save(f"{name}/{color}.png")


@pytest.fixture
def labels(installed: Callable[..., Outcome], photos: None) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        done = installed(
            "explain", *arguments, "-m", f"{LITTLE}:make", "-e", "saliency", "-r", "json", "--force"
        )
        assert done.code == 0, done.err
        document = json.loads(Path("cvx-out/run.json").read_bytes())
        found = [
            (Path(one["file"]).name, one["label"], one["prediction"]["label"]["name"])
            for one in document["images"]
        ]
        return found, done.err

    return run


def test_a_folder_is_explained_with_the_names_of_its_folders_as_labels(labels: Any) -> None:
    found, said = labels(".", "--label", "folder")
    assert found == [("blue.png", "folder", "blue jay"), ("red.png", "folder", "red fox")]
    assert "[2/2] red.png" in said


def test_labels_come_from_a_csv_by_path(labels: Any) -> None:
    Path("labels.csv").write_text("image,class\nred.png,green mamba\nblue jay/blue.png,0\n")
    found, _ = labels("*/*.png", "--label", "labels.csv")
    assert [name for *_, name in found] == ["red fox", "green mamba"]


def test_labels_of_a_classifier_come_from_a_coco_file(labels: Any) -> None:
    images = [
        {"id": k, "file_name": f"{c}.png", "width": 8, "height": 8}
        for k, c in ((1, "red"), (2, "blue"))
    ]
    boxes = [
        {"id": k, "image_id": image, "category_id": 7, "bbox": [0, 0, 4, 4]}
        for k, image in ((1, 1), (2, 1), (3, 2))
    ]
    data = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "red fox"}]}
    Path("coco.json").write_text(json.dumps(data))
    found, _ = labels("red fox", "blue jay", "--label", "coco.json")
    assert [name for *_, name in found] == ["red fox", "red fox"]


def test_an_image_that_the_table_lacks_and_a_wrong_number_of_labels_are_refused(
    installed: Callable[..., Outcome], photos: None
) -> None:
    Path("labels.csv").write_text("path,label\nred.png,red fox\n")
    done = installed("explain", ".", "-m", f"{LITTLE}:make", "--label", "labels.csv")
    assert done.code == 3
    assert "labels.csv has no row for" in done.err
    done = installed("explain", ".", "--label", "a", "--label", "b", "--label", "c")
    assert (done.code, done.out) == (2, "")
    assert "Got 3 labels for 2 images" in done.err
    assert not Path("cvx-out").exists()


def test_a_class_may_be_called_folder() -> None:
    from cvx_core.tasks.ground_truth import label_of

    assert label_of("folder", "cat/a.png", ["file", "folder"]) == "folder"
    assert label_of("folder", "cat/a.png", ["file"]) == "cat"


def test_an_unknown_command_names_the_package_that_brings_it(
    installed: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "package_of", {"audit": "cvx-audit", "explian": ""}.get)
    done = installed("audit")
    assert (done.code, done.out) == (2, "")
    command = install_command("cvx-audit")
    said = f"Unknown command 'audit'. Install the package that brings it: {command}"
    assert said in done.err
    assert "Did you mean 'explain'?" in installed("explian").err
