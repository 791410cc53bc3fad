"""Ground truth is read from the usual files; what is wrong with one is said with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cvx_annotations.class_names import ClassNames
from cvx_annotations.coco import coco_images
from cvx_annotations.reader import read_annotations
from PIL import Image

from cvx_core import read_ground_truth
from cvx_core.errors import InputError, UsageError
from cvx_core.images import read_image
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


@pytest.mark.parametrize("names", ["[[x, y]]", "{.inf: x}"])
def test_names_of_yolo_are_texts_by_whole_numbers(file: Any, names: str) -> None:
    file("data.yaml", f"names: {names}")
    photo = file("a.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="Invalid names"):
        read_ground_truth(file("a.txt", "0 0.5 0.5 0.5 0.5"), "detection", photo)


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
    ("a.json", coco_with(bbox=[1, 2, 3]), "annotation 0: bbox has 3 numbers"),
    ("a.json", coco_with(bbox=[1, 2, 0, 4]), "annotation 0: the box 1, 2, 1, 6 is empty"),
    ("a.json", coco_with(bbox=[1, 2, 1e999, 4]), "annotation 0: .*invalid JSON|is empty"),
    ("a.json", coco_with(bbox=[1, 2, 10**400, 4]), "annotation 0: .* too large"),
    ("a.json", coco_with(bbox="1234"), "annotation 0: expected a list of numbers"),
    ("a.json", coco_with(bbox=["1", 2, 3, 4]), "annotation 0: expected a list of numbers"),
    ("a.json", coco_with(bbox=[True, 2, 3, 4]), "annotation 0: expected a list of numbers"),
    ("a.json", coco_with(iscrowd="no"), "annotation 0: .*iscrowd must be 0 or 1, got 'no'"),
    ("a.json", coco_with(iscrowd=2), "annotation 0: .*iscrowd must be 0 or 1, got 2"),
    (
        "a.json",
        {**COCO, "images": [{"id": [7], "file_name": "a"}]},
        r"image has an invalid id, \[7\]",
    ),
    ("a.json", {**COCO, "images": COCO["images"] * 2}, "image has the id 7 of another"),
    ("a.json", {**COCO, "categories": COCO["categories"] * 2}, "category has the id 17 of another"),
    ("a.json", coco_with(category_id=3), "annotation 0: category 3 was not found"),
    ("a.json", {**COCO, "categories": [{"id": 18, "name": "dgo"}]}, "no class 'dgo'.*\nDid you"),
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
    ("a.csv", "", "is empty"),
    ("a.doc", "", "Unsupported file of boxes"),
]


@pytest.mark.parametrize(("name", "content", "said"), WRONG)
def test_what_is_wrong_with_a_file_of_boxes_is_said_with_its_place_and_a_way_out(
    file: Any, name: str, content: Any, said: str
) -> None:
    photo = file("photo.jpg", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match=said) as caught:
        read_ground_truth(file(name, content), "detection", photo, CLASSES)
    assert caught.value.hint


def test_a_fault_costs_the_image_that_it_concerns(file: Any) -> None:
    good = COCO["annotations"]
    more = [
        {**good[1], "bbox": [1, 2, 0, 4]},
        {**good[1], "category_id": 3},
        {**good[1], "image_id": [7]},
        7,
    ]
    twice = [{"id": 12, "file_name": name} for name in ("b.jpg", "c.jpg")]
    images = [*COCO["images"], {"id": 11}, *twice]
    path = file("a.json", {**COCO, "images": images, "annotations": [*good, *more]})
    found, unassigned = coco_images(path, ClassNames(CLASSES))
    assert [one.name for one in found] == [
        "a/photo.jpg",
        "other.jpg",
        "images[2]",
        "b.jpg",
        "c.jpg",
    ]
    assert len(found[0].objects.boxes) == 2
    assert [len(one.faults) for one in found] == [2, 0, 1, 1, 1]
    assert found[0].faults[0] == "annotation 3: the box 1, 2, 1, 6 is empty."
    assert found[0].faults[1] == "annotation 4: category 3 was not found."
    assert unassigned == [
        "annotation 5: image [7] was not found.",
        "annotation 6: image None was not found.",
    ]


def test_all_faults_of_a_file_are_listed(file: Any) -> None:
    photo = file("photo.jpg", np.zeros((4, 4, 3), np.uint8))
    for name, content in [
        ("a.txt", "7 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n1 0.5 0.5 0 0.2"),
        ("a.xml", VOC.replace("60", "3").replace("<name>cat</name>", "<name>cow</name>")),
        ("a.json", {**COCO, "annotations": [{**COCO["annotations"][1], "bbox": []}] * 2}),
    ]:
        with pytest.raises(InputError, match=r"^2 faults\. .*(line 1|line 3|annotation 0)"):
            read_ground_truth(file(name, content), "detection", photo, CLASSES)


@pytest.mark.parametrize("where", ["labels/train", "labels", "."])
@pytest.mark.parametrize("form", ["list", "mapping", "lines"])
def test_yolos_classes_are_matched_by_name(tmp_path: Path, where: str, form: str) -> None:
    folder = tmp_path / "set" / "labels" / "train"
    folder.mkdir(parents=True)
    names = ["dog", "person", "Cat"]
    if form == "lines":
        (tmp_path / "set" / where / "classes.txt").write_text("\n".join(names))
    else:
        said = names if form == "list" else dict(enumerate(names))
        (tmp_path / "set" / where / "data.yaml").write_text(json.dumps({"names": said}))
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    (folder / "a.txt").write_text("0 .5 .5 .2 .2\n2 .5 .5 .4 .4\n")
    found = read_ground_truth(folder / "a.txt", "detection", tmp_path / "a.png", CLASSES)
    assert [one.reference for one in found.boxes] == [2, 1]  # type: ignore[union-attr]
    (folder / "a.txt").write_text("3 .5 .5 .2 .2\n")
    with pytest.raises(InputError, match="names no class 3"):
        read_ground_truth(folder / "a.txt", "detection", tmp_path / "a.png", CLASSES)


def test_classes_are_renamed_or_left_out(file: Any) -> None:
    photo = file("photo.jpg", np.zeros((40, 40, 3), np.uint8))
    renamed = {"dog": "cat", "Cat": "", "cat": "", "2": "person", "1": ""}
    for name, content, expected in [
        ("a.json", COCO, [1]),
        ("a.xml", VOC, [1]),
        ("a.txt", "2 .5 .5 .2 .2\n1 .5 .5 .2 .2", [0]),
    ]:
        found = read_annotations(file(name, content), GroundTruthBoxes, photo, CLASSES, renamed)
        assert [one.reference for one in found.boxes] == expected  # type: ignore[union-attr]
    mask = file("mask.png", np.array([[0, 1, 2]], np.uint8))
    found = read_annotations(mask, GroundTruthMask, "", CLASSES, renamed)
    assert found.indices.tolist() == [[0, 255, 0]]  # type: ignore[union-attr]
    runs = coco_of({"category_id": 18, "segmentation": [[0, 0, 6, 0, 6, 4, 0, 4]]})
    found = read_annotations(
        file("m.json", runs), GroundTruthMask, "photo.jpg", PIXELS, {"dog": "cat"}
    )
    assert set(found.indices.flat) == {1}  # type: ignore[union-attr]


def test_what_the_model_does_not_know_is_refused_with_the_table() -> None:
    names = ClassNames(CLASSES, {"kitten": "cat", "tree": ""})
    names.check(["dog", "kitten", "tree"], "data.yaml")
    with pytest.raises(InputError) as caught:
        names.check(["dog", "kitten", "tree", "persons"], "data.yaml")
    assert caught.value.message.splitlines() == [
        "1 of the 4 classes in data.yaml are not among the model's 3, 'person', 'cat', 'dog':",
        "  persons  unknown (near: person)",
        "  dog      2 dog",
        "  kitten   1 cat",
        "  tree     left out",
    ]
    assert "--classes-map 'persons=NAME'" in str(caught.value.hint)


@pytest.mark.parametrize("tag", range(1, 9))
def test_masks_and_boxes_of_stored_pixels_are_turned_with_the_image(file: Any, tag: int) -> None:
    """A white rectangle in an image of 40 x 24 stored pixels: mask and boxes lie upon it."""
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[4:12, 8:30] = 255
    stored = Image.fromarray(pixels)
    exif = stored.getexif()
    exif[0x0112] = tag
    photo = file("x.jpg", "").with_name("photo.jpg")
    stored.save(photo, exif=exif, quality=100, subsampling=0)
    if tag < 5 and tag > 1:
        return  # width and height don't tell what the annotations are of: they are taken as upright
    upright = read_image(photo).pixels[..., 0] > 128
    mask = file("mask.png", (pixels[..., 0] > 0).astype(np.uint8))
    found = read_ground_truth(mask, "segmentation", photo, CLASSES)
    assert found.indices.shape == upright.shape  # type: ignore[union-attr]
    assert ((found.indices > 0) == upright).all()  # type: ignore[union-attr]
    rows, columns = np.nonzero(upright)
    expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    entry = {"id": 7, "file_name": "photo.jpg", "width": 40, "height": 24}
    coco = {**coco_with(bbox=[8, 4, 22, 8]), "images": [entry]}
    voc = (
        "<annotation><size><width>40</width><height>24</height></size><object><name>dog</name>"
        "<bndbox><xmin>9</xmin><ymin>5</ymin><xmax>30</xmax><ymax>12</ymax></bndbox></object>"
        "</annotation>"
    )
    for path in (file("a.json", coco), file("a.xml", voc)):
        boxes = read_ground_truth(path, "detection", photo, CLASSES)
        assert [one.box for one in boxes.boxes] == [expected]  # type: ignore[union-attr]


def test_a_mask_turned_against_its_image_is_refused(file: Any) -> None:
    photo = file("photo.png", np.zeros((30, 40, 3), np.uint8))
    mask = file("mask.png", np.zeros((40, 30), np.uint8))
    with pytest.raises(InputError, match=r"for an image of 30 x 40 pixels, and the image has 40 x"):
        read_ground_truth(mask, "segmentation", photo, CLASSES)
    # Another size of the same shape, and another shape, are stretched over the image.
    for shape in ((15, 20), (20, 20)):
        mask = file("mask.png", np.zeros(shape, np.uint8))
        assert read_ground_truth(mask, "segmentation", photo, CLASSES).indices.shape == shape  # type: ignore[union-attr]


def test_cocos_images_are_found_in_either_unicode_form_and_with_backslashes(file: Any) -> None:
    for name, image in [
        ("d\\caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
    ]:
        coco = {
            **COCO,
            "images": [{"id": 7, "file_name": name}],
            "annotations": COCO["annotations"][1:],
        }
        found = read_ground_truth(file("a.json", coco), "detection", image, CLASSES)
        assert len(found.boxes) == 2  # type: ignore[union-attr]


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
        (file("a.json", COCO), "classification", "", "has 0 images called"),
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
        (None, "segmentation is None"),
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
