"""The folder of a run: files are written whole, also over one that is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cvx_core.errors import OutputError
from cvx_core.explanations.output_folder import RUN, Folder


@pytest.mark.parametrize("again", [False, True])
def test_a_disk_that_fails_leaves_the_earlier_run_json_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    folder = Folder(tmp_path, force=True)
    folder.write(RUN, b"earlier")

    def fail(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=r"run\.json could not be written: No space left"):
        folder.write(RUN, b"later, and longer", again=again)
    assert (tmp_path / RUN).read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == [RUN]


def test_only_what_this_run_wrote_first_is_taken_back(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(b"mine")
    folder = Folder(tmp_path)
    folder.write("a/map.png", b"map")
    folder.write(RUN, b"one")
    folder.write(RUN, b"two", again=True)
    assert folder.written == ["a/map.png", RUN]
    assert (tmp_path / RUN).read_bytes() == b"two"
    folder.take_back()
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["mine.txt"]
