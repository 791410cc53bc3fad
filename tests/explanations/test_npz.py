"""Saved explanations: the same bytes each time, and nothing hostile gets in by loading them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from cvx_core.errors import CvxError, OutputError
from cvx_core.explanations import npz as storage
from cvx_core.explanations.explanation import Explanation, to_npz
from cvx_core.explanations.results import load_explanations
from cvx_core.testing.samples import sample_explanation


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('code from the file was run')",))


def archive(tmp_path: Path, **arrays: Any) -> Path:
    path = tmp_path / "file.npz"
    np.savez(path, **arrays)
    return path


def rewritten(tmp_path: Path, change: Any) -> Path:
    """A good archive whose metadata were changed."""
    with np.load(io.BytesIO(to_npz([sample_explanation()]))) as good:
        arrays = dict(good)
    document = json.loads(str(arrays["metadata"]))
    change(document)
    return archive(tmp_path, **{**arrays, "metadata": np.array(json.dumps(document))})


def test_several_explanations_come_back_equal_and_each_image_is_stored_once(
    tmp_path: Path,
) -> None:
    several = [
        sample_explanation(),
        sample_explanation(seed=1, signed=False),
        sample_explanation(size=(20, 30), cells=(1, 1), label=None),
        sample_explanation(classes=("$5 \\foo$", "<b>", "مرحبا\u202e😀\n")),
    ]
    data = to_npz(several)
    (tmp_path / "several.npz").write_bytes(data)
    assert load_explanations(tmp_path / "several.npz") == several
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    assert [n for n in names if n.startswith("image")] == ["image_0.npy", "image_1.npy"]


def test_the_same_explanations_give_the_same_bytes() -> None:
    assert to_npz([sample_explanation()]) == to_npz([sample_explanation()])


def test_an_archive_is_read_without_pickle_by_numpy_alone() -> None:
    with np.load(io.BytesIO(to_npz([sample_explanation()])), allow_pickle=False) as arrays:
        assert arrays["values_0"].dtype == np.float32
        assert json.loads(str(arrays["metadata"]))["schema"] == storage.SCHEMA


def test_numbers_that_are_not_finite_are_saved_as_null(tmp_path: Path) -> None:
    one = sample_explanation(evidence={"ratio": float("inf")})
    (tmp_path / "a.npz").write_bytes(to_npz([one]))
    assert Explanation.load(tmp_path / "a.npz").evidence["ratio"] is None


def test_a_file_with_several_is_not_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "two.npz").write_bytes(to_npz([sample_explanation()] * 2))
    with pytest.raises(OutputError, match=r"load_explanations\(\)"):
        Explanation.load(tmp_path / "two.npz")


def test_pickle_inside_an_archive_is_refused_and_not_run(tmp_path: Path) -> None:
    for name in ("metadata", "values_0", "image_0"):
        with np.load(io.BytesIO(to_npz([sample_explanation()]))) as good:
            arrays = dict(good)
        arrays[name] = np.array([Bomb()], dtype=object)
        path = archive(tmp_path, **arrays)
        with pytest.raises(OutputError, match="Can't read explanations"):
            load_explanations(path)


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(OutputError, match="Can't read explanations"):
        load_explanations(path)


def test_an_archive_that_would_unpack_to_gigabytes_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MAX_BYTES", 10_000_000)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, metadata=np.zeros(20_000_000, np.uint8))
    assert path.stat().st_size < 100_000
    with pytest.raises(OutputError, match="would unpack to"):
        load_explanations(path)


def test_an_archive_that_lies_about_its_sizes_does_not_unpack_to_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MAX_BYTES", 10_000_000)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, metadata=np.zeros(20_000_000, np.uint8))
    data = path.read_bytes()
    honest, lie = (n.to_bytes(4, "little") for n in (20_000_128, 1_000))
    assert honest in data
    path.write_bytes(data.replace(honest, lie))
    with pytest.raises(OutputError):
        load_explanations(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(schema="cvx.explanations/9"), "cvx.explanations/9"),
        (lambda d: d.pop("schema"), "KeyError"),
        (lambda d: d.update(explanations=3), "TypeError"),
        (lambda d: d.update(explanations=[3]), "Can't read explanations"),
        (lambda d: d["explanations"][0].pop("target"), "KeyError"),
        (lambda d: d["explanations"][0].update(image=7), "KeyError"),
        (lambda d: d["explanations"][0].update(extent=[0, 0]), "extent must be"),
        (lambda d: d["explanations"][0].update(extent="abcd"), "Can't read explanations"),
        (lambda d: d["explanations"][0].update(target=[]), "Can't read explanations"),
        (lambda d: d["explanations"][0]["target"].update(score="x"), "ValueError"),
        (lambda d: d["explanations"][0]["target"].update(predicted={"a": 1}), "TypeError"),
        (lambda d: d["explanations"][0].update(evidence=[1]), "Can't read explanations"),
        (lambda d: d.clear(), "KeyError"),
    ],
)
def test_metadata_of_another_shape_are_refused_in_words(
    tmp_path: Path, change: Any, says: str
) -> None:
    with pytest.raises(OutputError, match=says):
        load_explanations(rewritten(tmp_path, change))


@pytest.mark.parametrize("document", ["null", "[]", "3", "{", "[" * 100_000, '"\ud800"'])
def test_metadata_that_are_no_document_are_refused(tmp_path: Path, document: str) -> None:
    text = np.array(document.encode("utf-8", "surrogatepass").decode("latin-1"))
    with pytest.raises(OutputError):
        load_explanations(archive(tmp_path, metadata=text))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"hello", b"\x00" * 1000])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "map.npz"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="Can't read explanations"):
        load_explanations(path)


def test_a_pipe_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(OutputError, match="Not a regular file"):
        load_explanations(tmp_path / "pipe.npz")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File not found"):
        load_explanations(tmp_path / "nothing.npz")
    with pytest.raises(OutputError):
        load_explanations(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<U4', 'fortran_order': False, 'sha(e, 'sha(e,), }",
        "{'descr': '<U4', 'fortran_order': False, 'shape': (10000000000000,), }",
        "{'descr': '<U4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': [('a', '<U4', (2,) * 99)], 'fortran_order': 3, 'shape': ()}",
        "[" * 5000,
        "\x00",
    ],
)
def test_an_array_with_a_damaged_header_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "map.npz"
    length = len(header).to_bytes(2, "little")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.npy", b"\x93NUMPY\x01\x00" + length + header.encode() + b"x" * 16)
    with pytest.raises(OutputError, match="Can't read explanations"):
        load_explanations(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_archives_are_refused_in_words_or_read(tmp_path: Path, data: st.DataObject) -> None:
    good = bytearray(to_npz([sample_explanation(size=(8, 6), cells=(2, 2))]))
    for _ in range(data.draw(st.integers(0, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    path = tmp_path / "damaged.npz"
    path.write_bytes(bytes(good[:cut] if data.draw(st.booleans()) else good))
    with contextlib.suppress(CvxError):
        load_explanations(path)
