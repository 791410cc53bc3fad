"""Names of folders and files: safe on every file system, different where contents differ."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cvx_core.explanations.output_folder import ImageFolders, Names, encode_json, safe_stem

if TYPE_CHECKING:
    from conftest import Cvx


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("holiday (1).tar.jpg", "holiday-1-tar"),
        ("..", "image"),
        ("-rf.png", "rf"),
        (".hidden", "hidden"),
        ("con.foo.png", "con-foo"),
        ("a\x00b\x1b[31m\n.png", "a-b-31m"),
        ("猫.jpg", "猫"),
        ("हिन्दी.jpg", "हिन्दी"),
        ("cafe\u0301.jpg", "café"),
        ("\u202egpj.exe", "gpj"),
        ("\udcff\udcfe.jpg", "image"),
        ("🐱.jpg", "image"),
    ],
)
def test_stems_keep_letters_and_lose_what_a_file_system_may_refuse(name: str, stem: str) -> None:
    assert safe_stem(name) == stem


@pytest.mark.parametrize("letter", ["a", "猫", "é"])
def test_long_stems_are_cut_between_characters(letter: str) -> None:
    stem = safe_stem(letter * 300 + ".jpg")
    assert 70 < len(stem.encode()) <= 80
    assert set(stem) == {letter}


def test_folders_differ_where_contents_differ_and_only_there() -> None:
    folders = ImageFolders()
    same_start = "12345678" + "0" * 56, "12345678" + "1" * 56
    assert folders.name("cat.jpg", same_start[0]) == "cat-12345678"
    assert folders.name("CAT.jpg", same_start[1]) == "CAT-1234567811111111"
    assert folders.name("cat.jpg", same_start[0]) == "cat-12345678"


def test_names_are_numbered_without_regard_to_case() -> None:
    names = Names(["run.json"])
    assert [names.fresh(name) for name in ("a", "A", "a", "RUN.json")] == [
        "a",
        "A-2",
        "a-3",
        "RUN.json-2",
    ]


def test_names_that_are_no_utf8_survive_in_json() -> None:
    data = encode_json({"file": "a\udcff猫.jpg"})
    assert json.loads(data.decode("utf-8")) == {"file": "a\udcff猫.jpg"}
    assert "猫".encode() in data


def test_a_run_that_failed_and_left_nothing_stands_in_nobodys_way(cvx: Cvx) -> None:
    assert cvx.explain("red.png", "-e", "stub-never").run["status"] == "failed"
    done = cvx.explain("red.png")
    assert (done.code, done.run["status"]) == (0, "finished"), done.err
    # What succeeded stays, and so does a failure that left something.
    assert cvx.explain("red.png").code == 2
    left = {**done.run, "status": "failed"}
    (cvx.folder / "cvx-out/index.html").unlink()
    (cvx.folder / "cvx-out/run.json").write_text(json.dumps(left))
    assert cvx.explain("red.png").code == 2
    assert cvx.explain("red.png", "--force").code == 0
