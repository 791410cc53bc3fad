"""What each kind of data set holds: the same inputs, in the same order, with what is true."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from cvx_diagnose import Source, open_source
from PIL import Image

from cvx_core import GroundTruthBoxes, GroundTruthMask, InputError, UsageError

CLASSES = ("cat", "dog")
VOC = """<annotation><object><name>dog</name><bndbox><xmin>3</xmin><ymin>5</ymin><xmax>20</xmax>
<ymax>30</ymax></bndbox></object></annotation>"""


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 32), (9, 9, 9)).save(path)


def labels(source: Source) -> list[tuple[int, str, str | None]]:
    return [(item.id, item.path, item.label) for item in source.items()]


def test_folders_are_called_as_classes(tmp_path: Path) -> None:
    for name in ("dog/b.PNG", "dog/a.png", "cat/deep/c.jpg", "loose.png", ".hidden/x.png"):
        picture(tmp_path / name)
    (tmp_path / "dog" / "readme.md").write_text("")
    assert labels(open_source(tmp_path, "classification", CLASSES)) == [
        (0, "cat/deep/c.jpg", "cat"),
        (1, "dog/a.png", "dog"),
        (2, "dog/b.PNG", "dog"),
        (3, "loose.png", None),
    ]


def test_as_many_folders_as_classes_with_other_names_count_in_order(tmp_path: Path) -> None:
    for name in ("n02121808/a.png", "n02084071/a.png"):
        picture(tmp_path / name)
    found = labels(open_source(tmp_path, "classification", CLASSES))
    assert found == [(0, "n02084071/a.png", "0"), (1, "n02121808/a.png", "1")]


def test_a_folder_that_is_called_as_no_class_is_refused(tmp_path: Path) -> None:
    for name in ("dog/a.png", "wolf/a.png"):
        picture(tmp_path / name)
    with pytest.raises(UsageError, match=r"1 of the 2 folders .* class of the model: 'wolf'"):
        list(open_source(tmp_path, "classification", CLASSES).items())


def test_a_csv_and_a_parquet_file_list_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('label,path\ndog,"x, y.png"\n,z.png\n')
    pq.write_table(
        pa.table({"path": ["x, y.png", "z.png"], "label": ["dog", None]}), tmp_path / "a.parquet"
    )
    expected = [(0, "x, y.png", "dog"), (1, "z.png", None)]
    for name in ("a.csv", "a.parquet"):
        assert labels(open_source(tmp_path / name, "classification", CLASSES)) == expected
    (tmp_path / "b.csv").write_text("file,label\nx.png,dog\n")
    with pytest.raises(InputError, match="only 'file', 'label'"):
        list(open_source(tmp_path / "b.csv", "classification", CLASSES).items())


def boxes_of(source: Source) -> list[GroundTruthBoxes]:
    found = []
    for item in source.items():
        _, truth = source.load(item)
        assert isinstance(truth, GroundTruthBoxes)
        found.append(truth)
    return found


def test_boxes_come_from_coco_voc_and_yolo(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "b.png")
    coco = {
        "images": [{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "a.png"}],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [{"image_id": 3, "category_id": 18, "bbox": [2, 4, 18, 26]}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    source = open_source(tmp_path / "instances.json", "detection", CLASSES)
    assert [item.path for item in source.items()] == ["b.png", "a.png"]
    assert boxes_of(source) == [GroundTruthBoxes(()), GroundTruthBoxes.of([(2, 4, 20, 30)], [1])]

    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(VOC)
    source = open_source(tmp_path, "detection", CLASSES)
    first, second = source.items()
    assert source.load(first)[1] == GroundTruthBoxes.of([(2, 4, 20, 30)], [1])
    assert second.label is None

    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 0.25 0.5 0.5 0.75\n")
    # A YOLO image without a file has no objects.
    assert boxes_of(open_source(tmp_path, "detection", CLASSES)) == [
        GroundTruthBoxes.of([(0, 4, 20, 28)], [1]),
        GroundTruthBoxes(()),
    ]


def test_masks_lie_beside_images(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "sub" / "a.png")
    (tmp_path / "masks" / "sub").mkdir(parents=True)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "masks" / "sub" / "a.png")
    source = open_source(tmp_path, "segmentation", CLASSES)
    [item] = source.items()
    _, truth = source.load(item)
    assert isinstance(truth, GroundTruthMask)
    assert (truth.indices == np.eye(8)).all()
    with pytest.raises(UsageError, match="a folder images or JPEGImages, and beside it"):
        open_source(tmp_path / "masks", "segmentation", CLASSES)


class Squares(torch.utils.data.Dataset[object]):
    """Tensors with integer labels, one of which raises."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        if i == 1:
            raise KeyError("no such square")
        return torch.full((3, 32, 32), float(i)), i % 2


def test_a_data_set_of_pytorch_is_asked_by_index() -> None:
    source = open_source(Squares(), "classification", CLASSES)
    first, second, third = source.items()
    image, label = source.load(third)
    assert isinstance(image, torch.Tensor)
    assert (float(image.mean()), label) == (2.0, 0)
    assert first.path == "#0"
    with pytest.raises(InputError, match="The data set failed for 1: KeyError"):
        source.load(second)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File not found"):
        open_source(tmp_path / "nowhere", "classification", CLASSES)
    with pytest.raises(UsageError, match="got int"):
        open_source(3, "classification", CLASSES)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UsageError, match="as a data set for classification"):
        open_source(tmp_path / "a.txt", "classification", CLASSES)


def test_a_file_name_need_not_be_text(tmp_path: Path) -> None:
    from cvx_diagnose.data.manifest import Manifest, select_items, write_manifest

    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    picture(tmp_path / "dog" / "a.png")
    (tmp_path / "dog" / "a.png").rename(tmp_path / "dog" / name)
    source = open_source(tmp_path, "classification", CLASSES)
    total, items = select_items(source, None)
    count, _ = write_manifest(items, tmp_path / "manifest.parquet")
    assert (count, total) == (1, 1)
    [item] = Manifest(tmp_path / "manifest.parquet", 4).items(0)
    assert item.path == f"dog/{name}"
    assert item.display_path == "dog/caf\\udce9.png"
    assert source.load(item)[1] == "dog"
