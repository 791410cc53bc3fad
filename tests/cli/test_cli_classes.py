"""``cvx classes``: what a model can answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Cvx

LITTLE = str(Path(__file__).parent / "little.py")


def test_classes_are_listed_by_index_and_name(cvx: Cvx) -> None:
    done = cvx("classes", f"{LITTLE}:make")
    assert done.code == 0, done.err
    assert [line.split(maxsplit=1) for line in done.out.splitlines()] == [
        ["0", "red fox"],
        ["1", "green mamba"],
        ["2", "blue jay"],
    ]


def test_a_word_lists_those_that_contain_it(cvx: Cvx) -> None:
    document = json.loads(cvx("classes", f"{LITTLE}:make", "MAMBA", "--json").out)
    assert document["classes"] == [{"index": 1, "name": "green mamba"}]
    none = cvx("classes", f"{LITTLE}:make", "cat")
    assert (none.code, none.out) == (2, "")
    assert "No class of" in none.err


def test_a_model_without_names_says_so(cvx: Cvx) -> None:
    done = cvx("classes", f"{LITTLE}:unnamed")
    assert (done.code, done.out) == (2, "")
    assert "index" in done.err
