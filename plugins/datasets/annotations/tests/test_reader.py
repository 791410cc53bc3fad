"""Ground truth is read from the usual files; what is wrong with one is said with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cvx_annotations.coco import coco_images
from PIL import Image

from cvx_core import read_ground_truth
from cvx_core.errors import InputError, UsageError
from cvx_core.tasks.classification.prediction import ClassificationPrediction
from cvx_core.tasks.ground_truth import GroundTruthBox, GroundTruthBoxes, GroundTruthMask

CLASSES = ["person", "cat", "dog"]

COCO: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a/photo.jpg"}, {"id": 9, "file_name": "other.jpg"}],
    "categories": [{"id": 17, "name": "Cat"}, {"id": 18, "name": "dog"}],
    "annotations": [
        {"image_id": 9, "category_id": 17, "bbox": [0, 0, 1, 1]},
        {"image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 40.5], "iscrowd": 0},
        {"image_id": 7, "category_id": 17, "bbox": [0, 0, 5, 5], "iscrowd": 1},
    ],
}

VOC = """<annotation>
  <filename>photo.jpg</filename>
  <object>
    <name>dog</name>
    <difficult>0</difficult>
    <bndbox><xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>60</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>
    </bndbox></part>
  </object>
  <object>
    <name>cat</name>
    <bndbox><xmin>0</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>
    <difficult>1</difficult>
  </object>
</annotation>
"""


@pytest.fixture
def file(tmp_path: Path):
    """Write a file, and return its path."""

    def write(name: str, content: Any) -> Path:
        path = tmp_path / name
        if isinstance(content, np.ndarray | Image.Image):
            image = content if isinstance(content, Image.Image) else Image.fromarray(content)
            image.save(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_coco_gives_the_boxes_of_the_image_of_that_name(file: Any) -> None:
    path = file("instances.json", COCO)
    found = read_ground_truth(path, "detection", "elsewhere/photo.jpg", CLASSES)
    assert found == GroundTruthBoxes(
        (GroundTruthBox((10, 20, 40, 60.5), 2), GroundTruthBox((0, 0, 5, 5), 1, crowd=True))
    )


def test_the_model_is_known_by_its_answer(file: Any) -> None:
    class Answering(ClassificationPrediction):
        task = "detection"

    answer = Answering(np.zeros(3), CLASSES)
    found = read_ground_truth(file("instances.json", COCO), answer, "other.jpg")
    assert found == GroundTruthBoxes((GroundTruthBox((0, 0, 1, 1), 1),))


def test_without_class_names_classes_come_by_their_own_names(file: Any) -> None:
    found = read_ground_truth(file("a.json", COCO), "detection", "other.jpg")
    assert isinstance(found, GroundTruthBoxes)
    assert found.boxes[0].reference == "Cat"


def test_a_file_that_has_changed_is_read_again(file: Any) -> None:
    path = file("a.json", COCO)
    read_ground_truth(path, "detection", "other.jpg")
    changed = {**COCO, "annotations": []}
    file("a.json", changed)
    assert read_ground_truth(path, "detection", "other.jpg") == GroundTruthBoxes(())


def test_voc_counts_pixels_from_one_and_includes_the_last(file: Any) -> None:
    found = read_ground_truth(file("a.xml", VOC), "detection", "photo.jpg", CLASSES)
    # Columns 11 to 40 are thirty, and their edges are at 10 and 40.
    assert found == GroundTruthBoxes(
        (GroundTruthBox((10, 20, 40, 60), 2), GroundTruthBox((0, 0, 5, 5), 1, crowd=True))
    )


def test_yolo_gives_fractions_of_the_upright_photograph(file: Any) -> None:
    photo = Image.new("RGB", (50, 100))
    exif = photo.getexif()
    exif[0x0112] = 6  # turned by a quarter: upright it is 100 wide and 50 high
    file("a.txt", "")
    path = file("label.txt", "2 0.5 0.5 0.25 0.5\n\n0 0.1 0.1 0.2 0.2\n")
    picture = path.parent / "photo.jpg"
    photo.save(picture, exif=exif)
    found = read_ground_truth(path, "detection", picture, CLASSES)
    assert found == GroundTruthBoxes(
        (GroundTruthBox((37.5, 12.5, 62.5, 37.5), 2), GroundTruthBox((0, 0, 20, 10), 0))
    )
    assert read_ground_truth(
        path.parent / "a.txt", "detection", picture, CLASSES
    ) == GroundTruthBoxes(())


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I"])
def test_a_mask_gives_indices_as_they_are(file: Any, mode: str) -> None:
    indices = np.array([[0, 1, 2], [255, 2, 0]])
    kinds = {"L": np.uint8, "P": np.uint8, "I;16": np.uint16, "I": np.int32}
    image = Image.fromarray(indices.astype(kinds[mode]))
    if mode == "P":
        image.putpalette([*range(0, 256)] * 3)
    found = read_ground_truth(
        file("mask.tif" if mode == "I" else "mask.png", image), "segmentation"
    )
    assert isinstance(found, GroundTruthMask)
    assert found.indices.tolist() == indices.tolist()


def test_a_classifiers_truth_is_a_class_as_written_or_on_the_only_line_of_a_file(
    file: Any,
) -> None:
    assert read_ground_truth("tiger cat", "classification") == "tiger cat"
    assert read_ground_truth(file("a.txt", "tiger cat\n"), "classification") == "tiger cat"


def coco_with(**changes: Any) -> dict[str, Any]:
    return {**COCO, "annotations": [{**COCO["annotations"][1], **changes}]}


LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>
<annotation><object><name>&b;</name></object></annotation>"""
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'

WRONG: list[tuple[str, Any, str]] = [
    ("a.json", '{"images": [\n}', r"a\.json, line 2: invalid JSON"),
    ("a.json", "[" * 100_000, r"a\.json"),
    ("a.json", [1], "Not a COCO file of instances"),
    ("a.json", {**COCO, "images": [{"id": 1}]}, "lacks 'file_name'"),
    ("a.json", {**COCO, "images": [{"id": 7, "file_name": "x.jpg"}]}, "0 images called 'photo"),
    ("a.json", coco_with(bbox=[1, 2, 3]), "annotation 0: ValueError"),
    ("a.json", coco_with(bbox=[1, 2, 0, 4]), "annotation 0: the box 1, 2, 1, 6 is empty"),
    ("a.json", coco_with(bbox=[1, 2, 1e999, 4]), "annotation 0: .*invalid JSON|is empty"),
    ("a.json", coco_with(bbox=[1, 2, 10**400, 4]), "annotation 0: .* too large"),
    ("a.json", coco_with(bbox="1234"), "annotation 0: .* expected a list of numbers"),
    ("a.json", coco_with(bbox=["1", 2, 3, 4]), "annotation 0: .* expected a list of numbers"),
    ("a.json", coco_with(bbox=[True, 2, 3, 4]), "annotation 0: .* expected a list of numbers"),
    ("a.json", coco_with(iscrowd="no"), "annotation 0: .*iscrowd must be 0 or 1, got 'no'"),
    ("a.json", coco_with(iscrowd=2), "annotation 0: .*iscrowd must be 0 or 1, got 2"),
    (
        "a.json",
        {**COCO, "images": [{"id": [7], "file_name": "a"}]},
        r"image has an invalid id, \[7\]",
    ),
    ("a.json", {**COCO, "images": COCO["images"] * 2}, "image has the id 7 of another"),
    ("a.json", {**COCO, "categories": COCO["categories"] * 2}, "category has the id 17 of another"),
    ("a.json", coco_with(category_id=3), "annotation 0: KeyError 3"),
    ("a.json", {**COCO, "categories": [{"id": 18, "name": "dgo"}]}, "no class 'dgo'.\nDid you"),
    ("a.xml", VOC.replace("</name>", "", 1), r"a\.xml, line 9: invalid XML \(mismatched tag\)"),
    ("a.xml", VOC.replace("dog", "horse"), r"a\.xml, line 3: The model has no class 'horse'"),
    ("a.xml", VOC.replace("<ymax>60</ymax>", ""), r"a\.xml, line 3: the object has no 'ymax'"),
    ("a.xml", VOC.replace("60", "high"), r"a\.xml, line 3: could not convert"),
    ("a.xml", VOC.replace("60", "3"), r"a\.xml, line 3: the box 10, 20, 40, 3 is empty"),
    ("a.xml", LAUGHS, r"a\.xml, line 2: document types are not supported"),
    ("a.xml", OUTSIDE, r"a\.xml, line 1: document types are not supported"),
    ("a.xml", "<html></html>", "got <html>"),
    ("a.xml", "", "invalid XML"),
    (
        "a.txt",
        "2 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.25",
        r"a\.txt, line 2: invalid box '1 0.5 0.5 0.25'",
    ),
    ("a.txt", "dog 0.5 0.5 0.25 0.5", r"a\.txt, line 1"),
    ("a.txt", "1 50 50 25 25", "must be between 0 and 1"),
    ("a.txt", "1 nan 0.5 0.1 0.1", "must be between 0 and 1"),
    ("a.txt", "3 0.5 0.5 0.25 0.5", r"a\.txt, line 1: There is no class 3"),
    ("a.txt", b"\xff\xfe\x00", "Not UTF-8 text"),
    ("a.csv", "", "Unsupported file of boxes"),
]


@pytest.mark.parametrize(("name", "content", "said"), WRONG)
def test_what_is_wrong_with_a_file_of_boxes_is_said_with_its_place_and_a_way_out(
    file: Any, name: str, content: Any, said: str
) -> None:
    photo = file("photo.jpg", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match=said) as caught:
        read_ground_truth(file(name, content), "detection", photo, CLASSES)
    assert caught.value.hint


def test_an_annotation_of_a_whole_data_set_has_an_image_that_is_there(file: Any) -> None:
    path = file("a.json", coco_with(image_id=[7]))
    with pytest.raises(InputError, match=r"annotation 0: image \[7\] was not found"):
        list(coco_images(path, CLASSES))


WRONG_MASKS = [
    ("a.png", np.zeros((2, 2, 3), np.uint8), "color image"),
    ("a.png", np.zeros((2, 2, 4), np.uint8), "color image"),
    ("a.jpg", np.zeros((2, 2), np.uint8), "may change pixels"),
    ("a.png", np.array([[0, 255]], np.uint8), "has only the values 0 and 255"),
    ("a.png", b"\x89PNG\r\n", "not a readable image"),
    ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\0IHDR", "is damaged"),
]


@pytest.mark.parametrize(("name", "content", "said"), WRONG_MASKS)
def test_a_picture_that_is_no_mask_is_refused_with_a_way_out(
    file: Any, name: str, content: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_ground_truth(file(name, content), "segmentation")
    assert caught.value.hint


LONG = Path("n" * 300)
"""No file system of ours takes such a name."""


def test_a_class_with_a_name_that_no_file_can_have_remains_a_class() -> None:
    for ending in (".txt", ".png"):
        assert read_ground_truth("n" * 300 + ending, "classification") == "n" * 300 + ending


def test_other_mistakes_tell_the_way_out(file: Any, tmp_path: Path) -> None:
    for path, task, image, said in [
        (tmp_path / "none.xml", "detection", "", "File not found"),
        (tmp_path / "none.png", "segmentation", "", "File not found"),
        (file("a.txt", "0 .5 .5 .1 .1"), "detection", "none.jpg", "image size is unknown"),
        (LONG / "a.xml", "detection", "", "name too long"),
        (LONG / "a.json", "detection", "a.jpg", "name too long"),
        (LONG / "a.png", "segmentation", "", "name too long"),
        (file("a.txt", "0 .5 .5 .1 .1"), "detection", LONG / "a.jpg", "image size is unknown"),
        (file("b.txt", "cat\ndog"), "classification", "", "2 lines"),
        (file("a.json", COCO), "classification", "", "the model classifies"),
    ]:
        with pytest.raises(InputError, match=said) as caught:
            read_ground_truth(path, task, image)
        assert caught.value.hint
    with pytest.raises(UsageError, match="Unknown task"):
        read_ground_truth("a.json", "caption")


def coco_of(*annotations: dict[str, Any]) -> dict[str, Any]:
    """Return COCO's file of one image of 6 x 4 pixels."""
    return {
        "images": [{"id": 1, "file_name": "photo.jpg", "width": 6, "height": 4}],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [{"image_id": 1, **one} for one in annotations],
    }


PIXELS = ["background", "cat", "dog"]


def test_coco_outlines_give_the_class_of_each_pixel_smaller_objects_on_larger(file: Any) -> None:
    path = file(
        "instances.json",
        coco_of(
            {"category_id": 18, "segmentation": [[2, 1, 3, 1, 3, 3, 2, 3]]},
            {
                "category_id": 17,
                "segmentation": [[1, 0, 4, 0, 4, 4, 1, 4], [5, 0, 6, 0, 6, 1, 5, 1]],
            },
        ),
    )
    found = read_ground_truth(path, "segmentation", "photo.jpg", PIXELS)
    assert isinstance(found, GroundTruthMask)
    assert found.indices.tolist() == [
        [0, 1, 1, 1, 0, 1],
        [0, 1, 2, 1, 0, 0],
        [0, 1, 2, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
    ]


def test_coco_run_lengths_go_down_the_columns_and_crowds_are_unknown(file: Any) -> None:
    runs = {"size": [4, 6], "counts": [5, 2, 17]}  # the second and third pixel of column 1
    path = file("instances.json", coco_of({"category_id": 17, "segmentation": runs, "iscrowd": 1}))
    found = read_ground_truth(path, "segmentation", "photo.jpg", PIXELS)
    assert isinstance(found, GroundTruthMask)
    assert np.argwhere(found.indices == 255).tolist() == [[1, 1], [2, 1]]
    assert (found.indices == 0).sum() == 22


def test_what_nothing_covers_is_unknown_to_a_model_without_a_background(file: Any) -> None:
    path = file(
        "instances.json", coco_of({"category_id": 18, "segmentation": [[0, 0, 6, 0, 0, 4]]})
    )
    found = read_ground_truth(path, "segmentation", "photo.jpg", CLASSES)
    assert isinstance(found, GroundTruthMask)
    assert set(np.unique(found.indices).tolist()) == {2, 255}


def test_run_lengths_as_text_are_those_of_pycocotools(file: Any) -> None:
    mask_api = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for shape in ((7, 5), (40, 60), (3, 200)):
        blobs = np.repeat(np.repeat(rng.random((shape[0], shape[1] // 5)) > 0.6, 5, 1), 1, 0)
        packed = mask_api.encode(np.asfortranarray(blobs.astype(np.uint8)))
        said = {"size": list(blobs.shape), "counts": packed["counts"].decode()}
        whole = coco_of({"category_id": 17, "segmentation": said})
        whole["images"][0] |= {"width": blobs.shape[1], "height": blobs.shape[0]}
        found = read_ground_truth(file("a.json", whole), "segmentation", "photo.jpg", PIXELS)
        assert isinstance(found, GroundTruthMask)
        np.testing.assert_array_equal(found.indices == 1, blobs)


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ([[0, 0, 1, 1]], "Invalid polygon"),
        ([[0, 0, 1, 1, 2]], "a polygon of 5 numbers"),
        ({"size": [4, 6], "counts": [5]}, "add up to 5"),
        ({"size": [6, 4], "counts": [24]}, "size is 6 x 4"),
        ({"size": [4, 6], "counts": "\x7f"}, "in the run lengths"),
        (None, "TypeError"),
    ],
)
def test_a_broken_outline_is_told_with_its_annotation(
    file: Any, segmentation: Any, said: str
) -> None:
    path = file("instances.json", coco_of({"category_id": 17, "segmentation": segmentation}))
    with pytest.raises(InputError, match="annotation 0") as caught:
        read_ground_truth(path, "segmentation", "photo.jpg", PIXELS)
    assert said in caught.value.message
    assert "polygons" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ([[0, 0, 10**400, 0, 9, 9]], "too large"),
        (["001099"], "expected a list of numbers"),
        ({"size": [4, 6], "counts": [10**400]}, "whole number of 0 to 24"),
        ({"size": [4, 6], "counts": [2**62, 2**62, 2**62, 2**62, 24]}, "whole number of 0 to 24"),
        ({"size": [4, 6], "counts": [1.5, 22.5]}, "whole number of 0 to 24"),
    ],
)
def test_numbers_that_no_image_has_are_no_outline(file: Any, segmentation: Any, said: str) -> None:
    path = file("a.json", coco_of({"category_id": 17, "segmentation": segmentation}))
    with pytest.raises(InputError, match=f"annotation 0: .*{said}"):
        read_ground_truth(path, "segmentation", "photo.jpg", PIXELS)
