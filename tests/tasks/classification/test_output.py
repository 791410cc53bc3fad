"""The class scores are found in whatever a model returns, or the error says how to name them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cvx_core.errors import ModelError
from cvx_core.tasks.classification.output import classification

LOGITS = torch.tensor([[1.0, 2.0, 3.0]])
OTHER = torch.zeros(1, 7)
Inception = namedtuple("Inception", "logits aux_logits")


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        {"logits": LOGITS, "hidden": OTHER},
        {"aux": OTHER, "out": LOGITS},
        OrderedDict(scores=LOGITS),
        {"anything": LOGITS},
        SimpleNamespace(logits=LOGITS, loss=OTHER),
        SimpleNamespace(loss=None, prediction=LOGITS),
        Inception(LOGITS, OTHER),
        (LOGITS, LOGITS.softmax(1)),
        {"features": OTHER[..., None, None].expand(1, 7, 2, 2), "x": LOGITS},
        [None, LOGITS],
        LOGITS[:, :, None, None],
    ],
)
def test_the_scores_are_found(output: Any) -> None:
    assert torch.equal(classification(output), LOGITS)


@pytest.mark.parametrize("output", [None, "text", {}, (), SimpleNamespace(hidden=LOGITS), 3.0])
def test_without_scores_the_error_says_how_to_name_them(output: Any) -> None:
    with pytest.raises(ModelError, match="Pass readout="):
        classification(output)


@pytest.mark.parametrize("shape", [(3,), (), (2, 3, 8, 8), (2, 5, 3)])
def test_scores_of_another_shape_are_refused_with_the_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"must return scores \(B, C\), got \(.*\)"):
        classification(torch.zeros(shape))


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ((OTHER, LOGITS), r"0: \(1, 7\), 1: \(1, 3\)(.|\n)*o\[1\]"),
        ({"age": LOGITS[:, :1], "race": LOGITS}, r"age: \(1, 1\), race(.|\n)*o\['race'\]"),
    ],
)
def test_several_heads_are_refused_with_their_shapes(output: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        classification(output)
    assert torch.equal(classification(output, ["a", "b", "c"]), LOGITS)
    assert torch.equal(classification(output, 3), LOGITS)


def test_heads_of_equal_size_are_refused_and_entries_with_usual_names_are_not() -> None:
    with pytest.raises(ModelError, match=r"sex: \(1, 3\), smile: \(1, 3\)") as error:
        classification({"sex": LOGITS, "smile": LOGITS + 1}, 3)
    ways = "lambda o: o['sex'], or lambda o: o['smile']"
    assert error.value.hint == f"Choose one with VisionModel(..., readout=...): {ways}."
    assert torch.equal(classification({"scores": LOGITS + 1, "logits": LOGITS}), LOGITS)


def test_the_graph_goes_through() -> None:
    leaf = LOGITS.clone().requires_grad_()
    classification({"logits": leaf * 2}).sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad == 2).all()
