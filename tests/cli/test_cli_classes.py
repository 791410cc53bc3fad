"""``cvx classes``: what a model can answer."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from conftest import Cvx, Outcome

LITTLE = str(Path(__file__).parent / "little.py")


def test_classes_are_listed_by_index_and_name(cvx: Cvx) -> None:
    done = cvx("classes", "-m", f"{LITTLE}:make")
    assert done.code == 0, done.err
    assert [line.split(maxsplit=1) for line in done.out.splitlines()] == [
        ["0", "red fox"],
        ["1", "green mamba"],
        ["2", "blue jay"],
    ]


def test_a_word_lists_those_that_contain_it(cvx: Cvx) -> None:
    document = json.loads(cvx("classes", "-m", f"{LITTLE}:make", "MAMBA", "--json").out)
    assert document["classes"] == [{"index": 1, "name": "green mamba"}]
    none = cvx("classes", "-m", f"{LITTLE}:make", "cat")
    assert (none.code, none.out) == (2, "")
    assert "No class of" in none.err


def test_a_model_without_names_says_so(cvx: Cvx) -> None:
    done = cvx("classes", "-m", f"{LITTLE}:unnamed")
    assert (done.code, done.out) == (2, "")
    assert "index" in done.err


def test_weights_with_more_than_tensors_are_read_where_the_user_trusts_them(
    inside: Callable[..., Outcome], tmp_path: Path
) -> None:
    state = {"2.weight": torch.eye(3), "2.bias": torch.zeros(3)}
    torch.save({"state_dict": state, "args": Namespace(epochs=3)}, tmp_path / "mine.pth")
    arguments = ("classes", "-m", f"{LITTLE}:make", "--weights", "mine.pth")
    refused = inside(*arguments)
    assert refused.code != 0
    assert "--trust-checkpoint" in refused.err
    trusted = inside(*arguments, "--trust-checkpoint")
    assert (trusted.code, trusted.err) == (0, "")
