"""Files are written whole or not at all, and never over another without being asked."""

from __future__ import annotations

import multiprocessing
import os
import resource
import stat
from pathlib import Path

import pytest

from cvx_core._util.files import is_file, write_atomic
from cvx_core.errors import CvxError, ModelError, OutputError
from cvx_core.explanations.results import Artifact, load_explanations
from cvx_core.models.checkpoints import names_a_file, read_checkpoint
from cvx_core.models.factory import load_factory


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_bytes_are_written_and_missing_folders_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "map.npz"
    assert write_atomic(path, b"data") == path
    assert path.read_bytes() == b"data"
    assert leftovers(path.parent) == ["map.npz"]


def test_an_existing_file_stays_unless_overwriting_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="already exists") as caught:
        write_atomic(path, b"new")
    assert "--force" in caught.value.hint
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert leftovers(tmp_path) == ["map.png"]


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="already exists"):
        write_atomic(path, b"new")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.png"
    real = os.fsync

    def somebody_else(handle: int) -> None:
        real(handle)
        path.write_bytes(b"theirs")

    monkeypatch.setattr(os, "fsync", somebody_else)
    with pytest.raises(OutputError, match="already exists"):
        write_atomic(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert leftovers(tmp_path) == ["map.png"]


def test_a_file_system_without_hard_links_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_atomic(tmp_path / "map.png", b"data")
    with pytest.raises(OutputError, match="already exists"):
        write_atomic(tmp_path / "map.png", b"other")
    assert leftovers(tmp_path) == ["map.png"]


def _write_beyond_the_limit(path: Path, overwrite: bool, answer: object) -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        write_atomic(path, bytes(100_000), overwrite=overwrite)
    except OutputError as error:
        answer.put(str(error))  # type: ignore[attr-defined]
    else:
        answer.put("written")  # type: ignore[attr-defined]


@pytest.mark.parametrize("existing", [False, True])
def test_a_disk_that_refuses_leaves_everything_as_it_was(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "map.npz"
    if existing:
        path.write_bytes(b"old")
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    child = spawn.Process(target=_write_beyond_the_limit, args=(path, existing, answer))
    child.start()
    said = answer.get(timeout=120)
    child.join()
    assert "could not be written" in said
    assert "File too large" in said
    assert leftovers(tmp_path) == (["map.npz"] if existing else [])
    if existing:
        assert path.read_bytes() == b"old"


def test_a_folder_that_can_not_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        write_atomic(tmp_path / "file" / "map.png", b"data")


def test_a_name_that_is_too_long_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        write_atomic(tmp_path / ("x" * 300), b"data")
    assert leftovers(tmp_path) == []


def test_a_name_with_a_null_byte_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="could not be written"):
        write_atomic(tmp_path / "a\0b", b"data")


def test_a_folder_of_that_name_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "map").mkdir()
    with pytest.raises(OutputError):
        write_atomic(tmp_path / "map", b"data")
    with pytest.raises(OutputError):
        write_atomic(tmp_path / "map", b"data", overwrite=True)
    assert leftovers(tmp_path) == ["map"]


def _write_many(path: Path, letter: bytes, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    for _ in range(50):
        write_atomic(path, letter * 100_000, overwrite=True)


def test_two_processes_writing_one_name_leave_one_whole_file(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    path, barrier = tmp_path / "map.npz", spawn.Barrier(3)
    children = [
        spawn.Process(target=_write_many, args=(path, letter, barrier)) for letter in (b"a", b"b")
    ]
    for child in children:
        child.start()
    barrier.wait()
    while any(child.is_alive() for child in children):
        if path.exists():
            assert path.read_bytes() in (b"a" * 100_000, b"b" * 100_000)
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert leftovers(tmp_path) == ["map.npz"]


def _write_once(path: Path, letter: bytes, barrier: object, answer: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    try:
        write_atomic(path, letter)
    except OutputError:
        answer.put(None)  # type: ignore[attr-defined]
    else:
        answer.put(letter)  # type: ignore[attr-defined]


def test_of_two_processes_that_must_not_overwrite_one_wins(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    path, barrier, answer = tmp_path / "map.npz", spawn.Barrier(2), spawn.Queue()
    children = [
        spawn.Process(target=_write_once, args=(path, letter, barrier, answer))
        for letter in (b"a", b"b")
    ]
    for child in children:
        child.start()
    said = [answer.get(timeout=120) for _ in children]
    for child in children:
        child.join()
    [winner] = [letter for letter in said if letter]
    assert path.read_bytes() == winner
    assert leftovers(tmp_path) == ["map.npz"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_rights_that_other_programs_would_give_it(
    tmp_path: Path, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        path = write_atomic(tmp_path / "map.png", b"data")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_an_artifact_adds_its_suffix_where_the_name_has_none(tmp_path: Path) -> None:
    artifact = Artifact(".svg", "image/svg+xml", "ü".encode())
    assert artifact.text() == "ü"
    assert artifact.write(tmp_path / "map").name == "map.svg"
    assert artifact.write(tmp_path / "other.xml").name == "other.xml"
    with pytest.raises(OutputError):
        artifact.write(tmp_path / "map")


@pytest.mark.parametrize("name", ["n" * 300, "a/" + "n" * 300, "null\0byte", "missing", "."])
def test_a_name_that_no_file_has_or_can_have_is_no_file(name: str, tmp_path: Path) -> None:
    assert not is_file(tmp_path / name)
    for read in (read_checkpoint, load_explanations):
        with pytest.raises(CvxError, match=r"File not found|Not a regular file"):
            read(tmp_path / name)


def test_the_file_of_a_factory_may_not_be_there_for_its_name() -> None:
    with pytest.raises(ModelError, match="File not found"):
        load_factory("n" * 300 + ".py:make")


def test_names_of_published_weights_may_be_too_long_for_a_file() -> None:
    assert not names_a_file("n" * 300)
