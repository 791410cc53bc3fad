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
from cvx_diagnose.data.manifest import Manifest, write_manifest
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


def test_an_item_is_found_by_its_id_wherever_it_is(tmp_path: Path) -> None:
    from cvx_diagnose.data.items import Item
    from cvx_diagnose.data.manifest import Manifest, write_manifest

    ids = [7 * k + 3 for k in range(10_000)]  # as of --limit; three groups of rows
    write_manifest((Item(k, f"{k}.png", None) for k in ids), tmp_path / "manifest.parquet")
    manifest = Manifest(tmp_path / "manifest.parquet", 256)
    for number in (ids[0], ids[4095], ids[4096], ids[-1]):
        assert manifest.find(number) == Item(number, f"{number}.png", None)
    for number in (0, 11, ids[-1] + 1):
        with pytest.raises(UsageError, match="no input with id"):
            manifest.find(number)


def test_an_empty_folder_is_refused_with_the_layouts_that_are_read(tmp_path: Path) -> None:
    from cvx_diagnose.data.manifest import select_items

    with pytest.raises(UsageError, match="No inputs found") as raised:
        select_items(open_source(tmp_path, "classification", CLASSES), None)
    assert "sub-folder of images per class" in str(raised.value.hint)


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


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("filename,label\nx.png,dog\ny.png,\n", {}),
        ("Image;Class\nx.png;dog\ny.png;\n", {}),
        ("label\tfile\ndog\tx.png\n\ty.png\n", {}),
        ('"a;b"|what|where\n1|dog|x.png\n2||y.png\n', {"path": "where", "label": "what"}),
    ],
)
def test_columns_and_dialect_of_a_table_are_found_or_named(
    tmp_path: Path, text: str, options: dict[str, str]
) -> None:
    (tmp_path / "a.csv").write_text(text)
    named = {f"{key}_column": value for key, value in options.items()}
    source = open_source(tmp_path / "a.csv", "classification", CLASSES, **named)  # type: ignore[arg-type]
    assert labels(source) == [(0, "x.png", "dog"), (1, "y.png", None)]
    pq.write_table(pa.table({"File": ["x.png"], "y": ["dog"]}), tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", "classification", CLASSES)
    assert labels(source) == [(0, "x.png", "dog")]


def test_columns_that_are_not_there_or_several_are_refused_with_the_option(tmp_path: Path) -> None:
    for text, options, said in [
        ("where,what\nx.png,dog\n", {}, "no column 'path', only 'where', 'what'"),
        ("file,image,label\nx.png,x.png,dog\n", {}, "several columns .* 'file', 'image'"),
        ("path,label\nx.png,dog\n", {"path_column": "file"}, "no column 'file'"),
    ]:
        (tmp_path / "a.csv").write_text(text)
        source = open_source(tmp_path / "a.csv", "classification", CLASSES, **options)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=said) as caught:
            list(source.items())
        assert "--path-column" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("path,label,label\na.png,ant,bee\n", "has 2 columns 'label'"),
        ("path,File,path\na.png,ant,bee\n", "has 2 columns 'path'"),
        ("\ufeffpath\tlabel\na.png\tant\n".encode("utf-16-le"), "Not UTF-8 text"),
        # The rows behind the quote would be taken for one path.
        ('path,label\n"a.png,ant\nb.png,bee\n', "unexpected end of data"),
    ],
)
def test_a_table_that_is_empty_or_ambiguous_is_refused(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=message):
        list(open_source(tmp_path / "x.csv", "classification", CLASSES).items())


def test_an_empty_path_costs_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\n,dog\nx.png,dog\n")
    source = open_source(tmp_path / "a.csv", "classification", CLASSES)
    first, second = source.items()
    with pytest.raises(InputError, match="row 1: the path is empty"):
        source.load(first)
    assert (second.path, second.label) == ("x.png", "dog")


def test_a_row_with_more_columns_than_the_header_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\nx.png,dog,wolf\ny.png,dog,,\n")
    source = open_source(tmp_path / "a.csv", "classification", CLASSES)
    first, second = source.items()
    with pytest.raises(InputError, match=r"row 1: 3 columns, the header has 2\."):
        source.load(first)
    assert (second.path, second.label) == ("y.png", "dog")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", b"path,label\nx.png,d\xf6g\ny.png,dog\n"),
        (
            "a.jsonl",
            rb'{"path": "x.png", "label": "d\udcf6"}'
            + b"\n"
            + rb'{"path": "y\ud800", "label": "dog"}',
        ),
    ],
)
def test_a_label_or_a_path_that_is_no_text_costs_its_row(
    tmp_path: Path, name: str, text: bytes
) -> None:
    (tmp_path / name).write_bytes(text)
    source = open_source(tmp_path / name, "classification", CLASSES)
    write_manifest(source.items(), tmp_path / "manifest.parquet")
    first, second = Manifest(tmp_path / "manifest.parquet", 8).items(0)
    with pytest.raises(InputError, match=r"x\.png: the label .* is not UTF-8 text"):
        source.load(first)
    assert second.label == "dog"
    with pytest.raises(InputError, match="not found"):
        source.load(second)


def coco_set(tmp_path: Path, **changes: object) -> Path:
    coco: dict[str, object] = {
        "images": [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("abc")],
        "categories": [{"id": 18, "name": "dog"}, {"id": 19, "name": "wolf"}],
        "annotations": [
            {"image_id": i, "category_id": 18, "bbox": [2, 4, 18, 26]} for i in range(3)
        ],
        **changes,
    }
    (tmp_path / "a.json").write_text(json.dumps(coco))
    return tmp_path / "a.json"


@pytest.mark.parametrize("given", [True, False])
def test_a_missing_image_and_a_bad_box_cost_their_rows(tmp_path: Path, given: bool) -> None:
    good = {"category_id": 18, "bbox": [2, 4, 18, 26]}
    bad = {"image_id": 2, "category_id": 18, "bbox": [2, 4, 0, 26]}
    annotations = [{**good, "image_id": 1}, {**good, "image_id": 9}, bad, {**bad, "bbox": [1]}]
    file = coco_set(tmp_path, annotations=annotations)
    for name in "bc":
        picture(tmp_path / "images" / f"{name}.png")
    source = open_source(file, "detection", CLASSES, tmp_path / "images" if given else None)
    first, second, third = source.items()
    with pytest.raises(InputError, match=r"a\.png"):
        source.load(first)
    assert source.load(second)[1] == GroundTruthBoxes.of([(2, 4, 20, 30)], [1])
    with pytest.raises(InputError, match=r"2 faults\. .*annotation 2: .*empty.*annotation 3"):
        source.load(third)
    assert [one.partition(", ")[2] for one in source.faults] == [
        "annotation 1: image 9 was not found."
    ]


def test_no_image_at_all_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"None of the images .* 'a\.png'; looked in .*nowhere"):
        open_source(coco_set(tmp_path), "detection", CLASSES, tmp_path / "nowhere")


def test_images_are_found_in_either_unicode_form_and_with_backslashes(tmp_path: Path) -> None:
    picture(tmp_path / "sub" / "cafe\u0301.png")
    images = [{"id": 0, "file_name": "sub\\caf\u00e9.png"}]
    source = open_source(coco_set(tmp_path, images=images, annotations=[]), "detection", CLASSES)
    assert [item.path for item in source.items()] == ["sub/cafe\u0301.png"]
    (tmp_path / "a.csv").write_text("path,label\nsub\\caf\u00e9.png,dog\n")
    source = open_source(tmp_path / "a.csv", "classification", CLASSES)
    assert labels(source) == [(0, "sub/cafe\u0301.png", "dog")]


def test_classes_of_other_names_are_refused_with_the_table_or_mapped(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .5 .5\n1 .5 .5 .25 .25\n")
    (tmp_path / "data.yaml").write_text("names: [dog, wolf]\n")
    wolves = {"category_id": 19, "bbox": [2, 4, 18, 26], "image_id": 0}
    images = [{"id": 0, "file_name": "images/a.png"}]
    coco = coco_set(tmp_path, images=images, annotations=[wolves, {**wolves, "category_id": 18}])
    for data in (tmp_path, coco):
        with pytest.raises(
            InputError, match=r"1 of the 2 classes in .*\n  wolf  unknown"
        ) as caught:
            open_source(data, "detection", CLASSES)
        assert "--classes-map 'wolf=NAME'" in str(caught.value.hint)
        mapped = open_source(data, "detection", CLASSES, classes_map={"wolf": "cat"})
        assert sorted(one.reference for one in boxes_of(mapped)[0].boxes) == [0, 1]
        mapped = open_source(data, "detection", CLASSES, classes_map={"wolf": ""})
        assert [one.reference for one in boxes_of(mapped)[0].boxes] == [1]
    with pytest.raises(UsageError, match="maps 'wolf' to 'lion'"):
        open_source(coco, "detection", CLASSES, classes_map={"wolf": "lion"})


def test_folders_and_columns_are_mapped_too(tmp_path: Path) -> None:
    for name in ("dog/a.png", "wolf/a.png", "tree/a.png"):
        picture(tmp_path / name)
    with pytest.raises(UsageError, match=r"\n  wolf  unknown|\n  tree  unknown") as caught:
        list(open_source(tmp_path, "classification", CLASSES).items())
    assert "--classes-map" in str(caught.value.hint)
    mapping = {"wolf": "dog", "tree": ""}
    source = open_source(tmp_path, "classification", CLASSES, classes_map=mapping)
    assert [source.load(item)[1] for item in source.items()] == ["dog", None, "dog"]
    swapped = {"dog": "cat", "cat": "dog", "wolf": "", "tree": ""}
    source = open_source(tmp_path, "classification", ("cat", "dog"), classes_map=swapped)
    assert [source.load(item)[1] for item in source.items()] == ["cat", None, None]
    (tmp_path / "a.csv").write_text("path,label\nwolf/a.png,wolf\ntree/a.png,tree\n")
    source = open_source(tmp_path / "a.csv", "classification", CLASSES, classes_map=mapping)
    assert [source.load(item)[1] for item in source.items()] == ["dog", None]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("camera.jpg", "camera_mask.png"),
        ("sub/camera.jpg", "sub/camera-mask.tif"),
        ("camera_image.png", "camera_label.png"),
        ("x_leftImg8bit.png", "x_gtFine_labelIds.png"),
        ("cafe\u0301.png", "caf\u00e9_seg.png"),
    ],
)
def test_masks_have_usual_endings(tmp_path: Path, image: str, mask: str) -> None:
    picture(tmp_path / "images" / image)
    (tmp_path / "masks" / mask).parent.mkdir(parents=True)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "masks" / mask)
    [item] = open_source(tmp_path, "segmentation", CLASSES).items()
    assert item.label == f"masks/{mask}"


def test_what_was_looked_for_is_said_where_no_mask_is_found(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "camera.jpg")
    (tmp_path / "masks").mkdir()
    source = open_source(tmp_path, "segmentation", CLASSES)
    assert [item.label for item in source.items()] == [None]
    assert "masks/camera.png, masks/camera_mask.png" in source.labels_searched
    assert "Name each file with a label after its image" in source.labels_searched


def test_other_columns_of_a_table_are_known_by_row_in_every_format(tmp_path: Path) -> None:
    rows = [
        {"path": "a.png", "label": "cat", "camera": "one", "hour": 3},
        {"path": "b.png", "label": "dog", "camera": "two", "hour": 4},
    ]
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    broken = [json.dumps(rows[0]), "{", json.dumps({**rows[1], "tags": ["x"]})]
    (tmp_path / "a.jsonl").write_text("\n".join(broken) + "\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    expected = {"camera": "one", "hour": 3}
    csv, lines_of_json, parquet = (
        open_source(tmp_path / f"a.{suffix}", "classification", CLASSES).columns()
        for suffix in ("csv", "jsonl", "parquet")
    )
    assert csv == {0: {"camera": "one", "hour": "3"}, 1: {"camera": "two", "hour": "4"}}
    assert parquet == {0: expected, 1: {"camera": "two", "hour": 4}}
    assert lines_of_json[0] == expected
    assert lines_of_json[1] == {"camera": None, "hour": None}
    assert lines_of_json[2] == {"camera": "two", "hour": 4}
