"""Data sets behind addresses, in archives and in the rows of files."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cvx_diagnose import Source, open_source
from cvx_diagnose.data.archives import TarShards
from cvx_diagnose.data.storage import Storage
from PIL import Image

from cvx_core import GroundTruthBoxes, GroundTruthMask, InputError, UsageError

CLASSES = ("cat", "dog")


def png(shade: int, size: tuple[int, int] = (40, 32)) -> bytes:
    stream = io.BytesIO()
    Image.new("L", size, shade).save(stream, "PNG")
    return stream.getvalue()


def loaded(source: Source) -> list[tuple[str, int, Any]]:
    """Return path, shade and ground truth of each item, read as a worker process does."""
    there: Source = pickle.loads(pickle.dumps(source))
    found = []
    for item in source.items():
        image, truth = there.load(item)
        found.append((item.path, int(image.pixels[0, 0, 0]), truth))  # type: ignore[union-attr]
    return found


@pytest.fixture
def memory() -> Iterator[Any]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def test_class_folders_at_an_address_are_read_as_here(memory: Any) -> None:
    for shade, name in enumerate(("cat/deep/b.png", "cat/a.png", "dog/a.png", "dog/.hidden.png")):
        memory.pipe(f"/set/{name}", png(shade))
    source = open_source("memory://set", "classification", CLASSES)
    assert loaded(source) == [
        ("cat/a.png", 1, "cat"),
        ("cat/deep/b.png", 0, "cat"),
        ("dog/a.png", 2, "dog"),
    ]
    # Copies of images are removed as soon as they are read.
    assert isinstance(source.storage, Storage)  # type: ignore[attr-defined]
    assert not list(source.storage.root.rglob("*.png"))  # type: ignore[attr-defined]


def test_yolo_labels_at_an_address_come_with_the_names_of_their_classes(memory: Any) -> None:
    memory.pipe("/set/images/a.png", png(5))
    memory.pipe("/set/labels/a.txt", b"0 0.25 0.5 0.5 0.75\n")
    memory.pipe("/set/data.yaml", b"names: [dog]\n")
    [(_, _, boxes)] = loaded(open_source("memory://set", "detection", CLASSES))
    assert boxes == GroundTruthBoxes.of([(0, 4, 20, 28)], [1])


def test_masks_at_an_address_are_those_of_the_same_name(memory: Any) -> None:
    memory.pipe("/set/images/a.png", png(5))
    memory.pipe("/set/masks/a_mask.png", png(1))
    [(_, _, mask)] = loaded(open_source("memory://set", "segmentation", CLASSES))
    assert isinstance(mask, GroundTruthMask)
    assert set(np.unique(mask.indices)) == {1}


def test_a_table_may_be_at_an_address_and_name_addresses(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/set/a.png", png(7))
    memory.pipe("/set/list.csv", b"path;label\na.png;dog\n")
    assert loaded(open_source("memory://set/list.csv", "classification", CLASSES)) == [
        ("a.png", 7, "dog")
    ]
    (tmp_path / "list.csv").write_text(
        "path,label\nmemory://set/a.png,cat\nmemory://set/b.png,cat\n"
    )
    source = open_source(tmp_path / "list.csv", "classification", CLASSES)
    first, missing = source.items()
    assert source.load(first)[1] == "cat"
    with pytest.raises(InputError, match=r"File not found: memory://set/b\.png"):
        source.load(missing)


def test_what_is_not_at_an_address_is_said(memory: Any) -> None:
    with pytest.raises(InputError, match="File not found: memory://nothing"):
        open_source("memory://nothing", "classification", CLASSES)
    with pytest.raises(UsageError, match="Can't read nowhere://x"):
        open_source("nowhere://x/y", "classification", CLASSES)


def shard(samples: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in samples.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def test_samples_of_tar_shards_are_in_order_with_their_labels(memory: Any, tmp_path: Path) -> None:
    shards = [
        {"x/1.png": png(1), "x/1.cls": b"1", "2.cls": b"cat\n", "2.png": png(2), "only.cls": b"0"},
        {"3.png": png(3), "3.json": b'{"label": "dog"}', "4.png": png(4), "5.png": png(5)}
        | {"5.json": b"{"},
    ]
    for k, samples in enumerate(shards):
        (tmp_path / f"s-{k:02}.tar").write_bytes(shard(samples))
        memory.pipe(f"/set/s-{k:02}.tar", shard(samples))
    expected = [
        ("s-00.tar/x/1.png", "1"),
        ("s-00.tar/2.png", "cat"),
        ("s-01.tar/3.png", "dog"),
        ("s-01.tar/4.png", None),
    ]
    for data in (tmp_path, tmp_path / "s-{00..01}.tar", tmp_path / "*.tar", "memory://set"):
        source = open_source(data, "classification", CLASSES)
        items = list(source.items())
        assert [(one.path, one.label) for one in items[:4]] == expected
        with pytest.raises(InputError, match=r"s-01\.tar, 5\.json: invalid JSON"):
            source.load(items[4])
        there: Source = pickle.loads(pickle.dumps(source))
        shades = [int(there.load(one)[0].pixels[0, 0, 0]) for one in items[:4]]  # type: ignore[union-attr]
        assert shades == [1, 2, 3, 4]
    with pytest.raises(InputError, match=r"Files not found in .*: 's-02\.tar'"):
        open_source(tmp_path / "s-{01..02}.tar", "classification", CLASSES)


def test_tar_shards_hold_boxes_and_masks(tmp_path: Path) -> None:
    boxes = {"boxes": [[0, 4, 20, 28]], "labels": ["dog"]}
    members = {"1.jpg": png(9), "1.json": json.dumps(boxes).encode()}
    members |= {"2.png": png(8), "2.txt": b"1 0.25 0.5 0.5 0.75\n"}
    (tmp_path / "boxes.tar").write_bytes(shard(members))
    found = loaded(open_source(tmp_path / "boxes.tar", "detection", CLASSES))
    assert found[0][2] == GroundTruthBoxes.of([(0, 4, 20, 28)], ["dog"])
    assert found[1][2] == GroundTruthBoxes.of([(0, 4, 20, 28)], [1])
    masks = {"1.png": png(9), "1.mask.png": png(1), "2.jpg": png(8), "2.png": png(0)}
    (tmp_path / "masks.tar").write_bytes(shard(masks))
    source = open_source(tmp_path / "masks.tar", "segmentation", CLASSES)
    assert isinstance(source, TarShards)
    found = loaded(source)
    assert [(path, shade) for path, shade, _ in found] == [
        ("masks.tar/1.png", 9),
        ("masks.tar/2.jpg", 8),
    ]
    assert [set(np.unique(mask.indices)) for *_, mask in found] == [{1}, {0}]


def test_a_parquet_file_holds_images_and_names_its_classes(tmp_path: Path) -> None:
    images = [{"bytes": png(k), "path": None} for k in range(5)]
    features = {"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}
    table = pa.table({"image": images, "label": [0, 1, 1, 0, None]}).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pq.write_table(table, tmp_path / "train-0.parquet", row_group_size=2)
    pq.write_table(table.slice(0, 1), tmp_path / "train-1.parquet")
    expected = [("dog", 0), ("cat", 1), ("cat", 2), ("dog", 3), (None, 4), ("dog", 0)]
    found = loaded(open_source(tmp_path, "classification", CLASSES))
    assert [(label, shade) for _, shade, label in found] == expected
    assert found[-1][0] == "train-1.parquet#0"
    # Columns of plain bytes, and of boxes as in COCO.
    objects = [{"bbox": [[0.0, 4.0, 20.0, 24.0]], "category": ["dog"]}]
    pq.write_table(pa.table({"img": [png(6)], "objects": objects}), tmp_path / "boxes.parquet")
    [(_, shade, boxes)] = loaded(open_source(tmp_path / "boxes.parquet", "detection", CLASSES))
    assert (shade, boxes) == (6, GroundTruthBoxes.of([(0, 4, 20, 28)], ["dog"]))
    pq.write_table(pa.table({"image": [png(6)], "mask": [png(1)]}), tmp_path / "masks.parquet")
    [(_, _, mask)] = loaded(open_source(tmp_path / "masks.parquet", "segmentation", CLASSES))
    assert set(np.unique(mask.indices)) == {1}


def test_tables_of_paths_do_not_match_a_pattern(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.png"], "label": ["cat"]}), tmp_path / "a-0.parquet")
    pq.write_table(pa.table({"img": [png(1)], "label": ["cat"]}), tmp_path / "a-1.parquet")
    for option in (None, "path"):
        pattern = tmp_path / "a-*.parquet"
        with pytest.raises(InputError, match=r"a-0\.parquet has no column .*of images") as error:
            list(open_source(pattern, "classification", CLASSES, path_column=option).items())
        assert "only 'path', 'label'" in error.value.message
        assert "--path-column" in str(error.value.hint)


def test_other_columns_of_parquet_files_are_known_by_item(tmp_path: Path) -> None:
    more = {"camera": ["a", "b"], "tags": [["x"], []], "raw": [b"1", b"2"], "hour": [3, 14]}
    images = {"image": [png(1), png(2)], "label": ["cat", "dog"]}
    pq.write_table(pa.table({**images, **more}), tmp_path / "a-0.parquet")
    pq.write_table(pa.table({**images, "hour": [5, 6]}), tmp_path / "a-1.parquet")
    source = open_source(tmp_path, "classification", CLASSES, path_column="image")
    ids = [item.id for item in source.items()]
    assert source.columns() == dict(
        zip(
            ids,
            [{"camera": "a", "hour": 3}, {"camera": "b", "hour": 14}, {"hour": 5}, {"hour": 6}],
            strict=True,
        )
    )
    (tmp_path / "b").mkdir()
    pq.write_table(pa.table(images), tmp_path / "b/a.parquet")
    assert open_source(tmp_path / "b/a.parquet", "classification", CLASSES).columns() == {}
    paths = {"path": ["1.png", "2.png"], "objects": [["x"], []], **more}
    pq.write_table(pa.table(paths), tmp_path / "paths.parquet")
    table = open_source(tmp_path / "paths.parquet", "detection", CLASSES, path_column="path")
    assert table.columns() == {0: {"camera": "a", "hour": 3}, 1: {"camera": "b", "hour": 14}}


def load_all(source: Source) -> None:
    for item in source.items():
        source.load(item)


def test_a_broken_archive_is_said_with_its_way_out(memory: Any, tmp_path: Path) -> None:
    whole = io.BytesIO()
    pq.write_table(pa.table({"image": [png(1)], "label": ["cat"]}), whole)
    page = whole.getvalue()
    broken = {
        "text.tar": (b"no archive" * 100, "Give uncompressed tar files."),
        "packed.tar": (gzip.compress(shard({"1.png": png(1)})), "Give uncompressed tar files."),
        "text.parquet": (b"no table" * 100, "Is it a whole Parquet file?"),
        "page.parquet": (page[:4] + bytes(60) + page[64:], "Is it a whole Parquet file?"),
    }
    for name, (data, hint) in broken.items():
        (tmp_path / name).write_bytes(data)
        memory.pipe(f"/broken/{name}", data)
        for place in (tmp_path / name, f"memory://broken/{name}"):
            with pytest.raises(InputError, match=f"Can't read .*{name}: ") as error:
                load_all(open_source(place, "classification", CLASSES))
            assert str(error.value.hint).startswith(hint), place
    message = r"Can't read .*: \[Errno 5\] broken disk\."
    with pytest.raises(InputError, match=message) as error, Storage(tmp_path).opened("text.tar"):
        raise OSError(5, "broken disk")
    assert error.value.hint == "Check address and permissions."
    with pytest.raises(ZeroDivisionError), Storage(tmp_path).opened("text.tar"):
        raise ZeroDivisionError


def test_an_option_without_effect_is_refused_with_what_takes_it(tmp_path: Path) -> None:
    (tmp_path / "set/cat").mkdir(parents=True)
    (tmp_path / "set/cat/a.png").write_bytes(png(1))
    (tmp_path / "list.csv").write_text("path,label\nset/cat/a.png,cat\n")
    (tmp_path / "a.tar").write_bytes(shard({"1.png": png(1), "1.cls": b"cat"}))
    refused = [
        ("set", {"split": "val"}, "--split", "data.yaml"),
        ("set", {"images": tmp_path}, "--images", "table of paths or a COCO file"),
        ("set", {"label_column": "label"}, "--label-column", "table"),
        ("list.csv", {"split": "val"}, "--split", "data.yaml"),
        ("a.tar", {"path_column": "png"}, "--path-column", "table"),
        ("a.tar", {"images": tmp_path}, "--images", "COCO"),
    ]
    for name, options, option, taker in refused:
        with pytest.raises(UsageError, match=f"{option} has no effect") as error:
            open_source(tmp_path / name, "classification", CLASSES, **options)  # type: ignore[arg-type]
        assert taker in str(error.value.hint)
    with pytest.raises(UsageError, match="--images has no effect"):
        open_source(Rows(), "classification", CLASSES, images=tmp_path)
    options = {"images": tmp_path, "path_column": "path", "label_column": "label"}
    [item] = open_source(tmp_path / "list.csv", "classification", CLASSES, **options).items()  # type: ignore[arg-type]
    assert item.label == "cat"


def test_a_broken_line_costs_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(3))
    lines = ['{"file_name": "a.png", "label": 1}', "{broken", '{"file_name": "a.png"}', "", "[1]"]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    source = open_source(tmp_path / "list.jsonl", "classification", CLASSES)
    items = list(source.items())
    assert [one.label for one in items[::2]] == ["1", None]
    for k, message in ((1, "row 2: invalid JSON"), (3, "row 4: invalid JSON: a line must be")):
        with pytest.raises(InputError, match=message):
            source.load(items[k])


def test_boxes_of_json_lines_and_a_wrong_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(3))
    rows = [
        {"path": "a.png", "objects": [{"bbox": [0, 4, 20, 24], "category": "dog"}]},
        {"path": "a.png", "objects": {"boxes": [[0, 4, 20, 28]], "labels": [1]}},
        {"path": "a.png", "objects": [{"bbox": [0, 4, 0, 24], "category": "dog"}]},
        {"path": "a.png", "objects": [{"bbox": [0, 4, 20], "category": "dog"}]},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = open_source(tmp_path / "list.jsonl", "detection", CLASSES)
    items = list(source.items())
    truths = [source.load(one)[1] for one in items[:2]]
    assert truths == [
        GroundTruthBoxes.of([(0, 4, 20, 28)], ["dog"]),
        GroundTruthBoxes.of([(0, 4, 20, 28)], [1]),
    ]
    with pytest.raises(InputError, match="row 3: box 0: the box 0, 4, 0, 28 is empty"):
        source.load(items[2])
    with pytest.raises(InputError, match="row 4: Invalid boxes"):
        source.load(items[3])


def test_a_data_yaml_names_images_and_classes(tmp_path: Path) -> None:
    for name in ("images/val/a.png", "images/train/b.png", "images/train/c.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(png(1))
    (tmp_path / "set/labels/val").mkdir(parents=True)
    (tmp_path / "set/labels/val/a.txt").write_text("0 0.25 0.5 0.5 0.75\n")
    (tmp_path / "set/train.txt").write_text("./images/train/c.png\n")
    text = "path: set\nval: images/val\ntrain: [images/train, train.txt]\nnames: {0: dog, 1: cat}\n"
    (tmp_path / "my.yaml").write_text(text)
    [(path, _, boxes)] = loaded(open_source(tmp_path / "my.yaml", "detection", CLASSES))
    assert (path, boxes) == ("set/images/val/a.png", GroundTruthBoxes.of([(0, 4, 20, 28)], [1]))
    train = open_source(tmp_path / "my.yaml", "detection", CLASSES, split="train")
    assert [(path, len(boxes.boxes)) for path, _, boxes in loaded(train)] == [
        ("set/images/train/b.png", 0),
        ("set/images/train/c.png", 0),
        ("set/images/train/c.png", 0),
    ]
    with pytest.raises(InputError, match=r"lacks 'test'"):
        open_source(tmp_path / "my.yaml", "detection", CLASSES, split="test")
    (tmp_path / "my.yaml").write_text(text.replace("images/val", "images/none"))
    with pytest.raises(InputError, match="were not found") as error:
        open_source(tmp_path / "my.yaml", "detection", CLASSES)
    assert "set/images/none" in error.value.hint


@pytest.mark.parametrize("place", ["names: [*d]\nval: x", "names: [dog]\nval: [*d]"])
def test_a_data_yaml_whose_texts_are_nested_aliases_is_refused(tmp_path: Path, place: str) -> None:
    # Written out, d is 9 ** 4 letters; a few lines more, and it fills the memory.
    lists = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcd")]
    text = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *lists, place])
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(InputError, match=r"is no data\.yaml of YOLO"):
        open_source(tmp_path / "my.yaml", "detection", CLASSES)


def test_a_coco_file_gives_masks_to_a_segmenter(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).write_bytes(png(1))
    coco = {
        "images": [
            {"id": k, "file_name": f"{name}.png", "width": 40, "height": 32}
            for k, name in enumerate("ab")
        ],
        "categories": [{"id": 9, "name": "dog"}],
        "annotations": [
            {"image_id": 0, "category_id": 9, "segmentation": [[0, 0, 20, 0, 20, 32, 0, 32]]},
            {"image_id": 1, "category_id": 9, "segmentation": [[0, 0, 20]]},
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    source = open_source(tmp_path / "instances.json", "segmentation", ("background", "dog"))
    first, broken = source.items()
    there: Source = pickle.loads(pickle.dumps(source))
    mask = there.load(first)[1]
    assert isinstance(mask, GroundTruthMask)
    assert (mask.indices == np.repeat([[1] * 20 + [0] * 20], 32, 0)).all()
    with pytest.raises(InputError, match="a polygon of 3 numbers"):
        there.load(broken)


class ClassLabel:
    """The feature of a column of classes."""

    def __init__(self) -> None:
        self.names = ["dog", "cat"]


class Rows:
    """A data set of columns, as of Hugging Face datasets."""

    def __init__(self) -> None:
        self.features = {"image": None, "label": ClassLabel()}

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"image": Image.new("RGB", (40, 32), (i, i, i)), "label": i}


def test_rows_of_a_data_set_with_columns_name_their_classes() -> None:
    found = loaded(open_source(Rows(), "classification", CLASSES))
    assert [(shade, label) for _, shade, label in found] == [(0, "dog"), (1, "cat")]


def test_the_folder_of_masks_is_listed_once_however_many_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for k in range(30):
        (tmp_path / "images" / f"{k}.png").write_bytes(b"")
    source = open_source(tmp_path, "segmentation", CLASSES)
    listed: list[str] = []
    original = Storage._list
    monkeypatch.setattr(
        Storage, "_list", lambda self, folder: [listed.append(folder), original(self, folder)][1]
    )
    monkeypatch.setattr(Storage, "is_file", None)  # no file is looked at by itself
    assert [one.label for one in source.items()] == [None] * 30
    assert listed.count("masks") <= 1
