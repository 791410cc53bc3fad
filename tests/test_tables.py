"""Labels of images in a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvx_core._util.tables import delimiter, label_in_table
from cvx_core.errors import InputError


def table(tmp_path: Path, *rows: str) -> Path:
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(rows), encoding="utf-8-sig")
    return file


def test_a_row_is_found_by_the_end_of_the_path(tmp_path: Path) -> None:
    file = table(tmp_path, "Image\tClass", "x.png\tcat", "b\\x.png\tdog", "./c/x.png\t")
    assert label_in_table(file, "a/x.png") == "cat"
    assert label_in_table(file, Path("/data/b/x.png")) == "dog"
    assert label_in_table(file, "c/x.png") is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("path,label", "y.png,cat"), r"has no row for x\.png"),
        (("path,label", "x.png,cat", "x.png,dog"), r"has 2 different labels for x\.png"),
        (("path,word", "x.png,cat"), "has no column 'label', only path, word"),
        (("label,word", "cat,x"), "has no column 'path'"),
        (("",), r"labels\.csv is empty"),
        (("path,label", '"y.png,cat', "x.png,cat"), "Can't read .*unexpected end of data"),
        (("Path,IMAGE,label", "x,y,z"), "several columns match: 'Path', 'IMAGE'"),
    ],
)
def test_a_table_that_does_not_say_the_label_is_refused(
    tmp_path: Path, rows: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        label_in_table(table(tmp_path, *rows), "x.png")


def test_a_table_that_changes_is_read_again(tmp_path: Path) -> None:
    import os

    file = table(tmp_path, "path,label", "x.png,cat")
    assert label_in_table(file, "x.png") == "cat"
    table(tmp_path, "path,label", "x.png,dog")
    os.utime(file, (1, 1))
    assert label_in_table(file, "x.png") == "dog"


@pytest.mark.parametrize(("header", "found"), [("a,b", ","), ('"a,b,c";b', ";"), ("a|b", "|")])
def test_the_delimiter_is_the_one_that_occurs_most(header: str, found: str) -> None:
    assert delimiter(header) == found
