"""``cvx compare``: maps side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from cvx_core.cli import main
from cvx_core.explanations import plots

if TYPE_CHECKING:
    from conftest import Outcome

LITTLE = f"{Path(__file__).parent / 'little.py'}:make"
PAIR = ("-e", "saliency", "-m", LITTLE)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is compared, in order."""
    kept: list[Any] = []
    real = plots.compare

    def compare(explanations: Any, **options: Any) -> Any:
        kept.append(explanations)
        return real(explanations, **options)

    monkeypatch.setattr(plots, "compare", compare)
    return kept


def test_two_weights_of_a_model_are_compared_for_each_image(
    installed: Callable[..., Outcome], drawn: list[Any], tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8), "red").save("red.png")
    Image.new("RGB", (8, 8), "blue").save("blue.png")
    both = ("--weights", "1.pth", "--weights", "2.pth")
    for k in (1, 2):
        state = {"2.weight": k * torch.eye(3), "2.bias": torch.zeros(3)}
        torch.save(state, tmp_path / f"{k}.pth")
    done = installed("compare", "red.png", "*lue.png", *PAIR, *both)
    assert done.code == 0, done.err
    assert done.out.split() == ["cvx-compare/red.png", "cvx-compare/blue.png"]
    assert [[one.name for one in several] for several in drawn] == [
        ["red.png"] * 2,
        ["blue.png"] * 2,
    ]
    first, second = drawn[0]
    assert second.values.sum() == pytest.approx(2 * first.values.sum(), rel=1e-5)
    assert Image.open("cvx-compare/red.png").width > 500
    again = installed("compare", "red.png", *PAIR, "-m", LITTLE)
    assert again.code == 2
    assert "--force" in again.err


def test_targets_and_saved_explanations_are_compared(
    installed: Callable[..., Outcome], drawn: list[Any]
) -> None:
    Image.new("RGB", (8, 8), "red").save("red.png")
    done = installed("compare", "red.png", *PAIR, "-t", "red fox", "-t", "1", "--label", "blue jay")
    assert done.code == 0, done.err
    assert [one.target.classes[0].index for one in drawn[0]] == [0, 1]
    assert drawn[0][0].target.label.name == "blue jay"
    for k, one in enumerate(drawn[0]):
        one.save(f"{k}.npz")
    assert installed("compare", "0.npz", "1.npz", "-o", "saved").out.split() == [
        "saved/comparison.png"
    ]
    assert drawn[1] == drawn[0]
    mixed = installed("compare", "0.npz", "red.png")
    assert (mixed.code, mixed.out) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("red.png",), 2, "Repeat -m, --weights, -e or -t"),
        (("red.png", "-m", LITTLE, *["--weights", "random"] * 3), 2, "2 models and 3 weights"),
        (("none.png", "-t", "0", "-t", "1"), 3, "File not found"),
        (("none.npz", "none.npz"), 3, "none.npz"),
    ],
)
def test_what_can_not_be_compared_is_told(
    installed: Callable[..., Outcome], arguments: tuple[str, ...], code: int, said: str
) -> None:
    Image.new("RGB", (8, 8), "red").save("red.png")
    done = installed("compare", *PAIR, *arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_an_image_that_one_model_fails_on_costs_itself_alone(
    installed: Callable[..., Outcome],
) -> None:
    Image.new("RGB", (8, 8), "red").save("red.png")
    done = installed("compare", "none.png", "red.png", *PAIR, "-m", LITTLE)
    assert (done.code, done.out.split()) == (4, ["cvx-compare/red.png"])
    assert done.err.count("File not found: none.png") == 1


def test_the_help_names_the_method_that_runs_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    assert "Default: class-attention." in " ".join(capfd.readouterr().out.split())
