"""Files, folders, patterns, URLs and data loaders as images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from cvx_core.errors import InputError
from cvx_core.images.image_files import is_url, read_image
from cvx_core.images.inputs import Parts, batches, count_images, image_paths, label_names, listed


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b/z.PNG", "a.jpg", "b/c/x.png", ".hidden/h.png", "b/.y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    (tmp_path / "b/notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_stands_for_all_images_below_it_but_hidden_ones(photos: Path) -> None:
    found = [str(Path(one).relative_to(photos)) for one in image_paths(photos)]
    assert found == ["a.jpg", "b/c/x.png", "b/z.PNG"]
    (photos / "empty").mkdir()
    with pytest.raises(InputError, match="empty has no images"):
        image_paths(photos / "empty")


def test_a_pattern_stands_for_the_files_that_match(photos: Path) -> None:
    assert image_paths(f"{photos}/*.jpg") == [f"{photos}/a.jpg"]
    assert image_paths(f"{photos}/**/*.png") == [f"{photos}/b/c/x.png"]
    with pytest.raises(InputError, match="No file matches"):
        image_paths(f"{photos}/*.gif")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos: Path) -> None:
    odd = photos / "a[1].png"
    Image.new("RGB", (4, 4)).save(odd)
    assert image_paths(odd) == [odd]
    assert image_paths(photos / "missing.png") == [photos / "missing.png"]


def test_images_of_any_kind_become_a_list(photos: Path) -> None:
    picture, array = Image.new("RGB", (4, 4)), np.zeros((4, 4, 3), np.uint8)
    assert listed(picture) == [picture]
    assert listed(array)[0] is array
    assert len(listed([photos, picture, str(photos / "a.jpg")])) == 5


@pytest.mark.parametrize(("text", "url"), [("s3://a/b.png", True), ("C:/a.png", False)])
def test_urls_are_told_from_paths(text: str, url: bool) -> None:
    assert is_url(text) is url


def test_an_image_is_read_from_a_url_that_fsspec_knows(photos: Path) -> None:
    found = read_image(f"file://{photos}/a.jpg")
    assert found.name == "a.jpg"
    assert found.digest == read_image(photos / "a.jpg").digest
    with pytest.raises(InputError, match="File not found: file://"):
        read_image(f"file://{photos}/none.jpg")
    with pytest.raises(InputError, match=r"Can't read nonsense://x\.png"):
        read_image("nonsense://x.png")


def test_without_fsspec_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvx_core.images.image_files.optional_module", lambda name: None)
    with pytest.raises(InputError, match="pip install fsspec"):
        read_image("https://host/x.png")


def test_a_data_loader_is_read_batch_by_batch() -> None:
    data = TensorDataset(torch.zeros(5, 3, 4, 4), torch.arange(5))
    loader: Any = DataLoader(data, batch_size=2)
    assert count_images(loader) == 5
    assert count_images(DataLoader(data, batch_size=2, drop_last=True)) is None
    labels = [batch.labels.tolist() for batch in batches(loader, 16)]
    assert labels == [[0, 1], [2, 3], [4]]
    of_data = [batch.labels for batch in batches(data, 3)]
    assert [len(one) for one in of_data] == [3, 2]
    triple: Any = DataLoader([(torch.zeros(3, 4, 4), 0, 1)])
    with pytest.raises(InputError, match="A batch has 3 parts"):
        list(batches(triple, 16))
    unnamed: Any = DataLoader([{"x": torch.zeros(3, 4, 4)}])
    with pytest.raises(InputError, match="Use one of the keys image, images"):
        list(batches(unnamed, 16))


def test_class_names_of_a_data_set_are_found_below_loaders_and_subsets() -> None:
    data = SimpleNamespace(classes=[("tench", "Tinca tinca"), "goldfish"])
    nested = SimpleNamespace(dataset=SimpleNamespace(dataset=data))
    assert label_names(nested) == ["tench", "goldfish"]
    assert label_names(SimpleNamespace(classes=None)) is None


def test_parts_of_a_mapping_go_to_the_images_that_they_name() -> None:
    parts = Parts({"a.jpg": 1, Path("b/x.png"): 2}, False, "labels")
    assert parts.of(0, [("b/x.png", "x.png")]) == {Path("b/x.png"): 2}
    assert parts.of(1, [("c.png", "c.png")]) is None
    assert Parts({"age": 3.0}, False, "labels").of(0, [("a.jpg", "a.jpg")]) == {"age": 3.0}
