"""Who judges the networks and the other libraries, on measurements and maps made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from zoo import page
from zoo.exceptions import EXPLAINED, unexplained, why
from zoo.measure import LIMITS, METHODS, problems
from zoo.rivals import RIVALS, SAME, _compared, _judged


def measured(network: str = "timm:good", **changes: Any) -> dict[str, Any]:
    """A network that is covered, but for the changes."""
    methods = {
        name: {"shape": [4, 4], "grid": [4, 4], "finite": True, "constant": False}
        for name in METHODS
    }
    methods["activation-error"] |= {"residual": 2e-7, "layer": "last"}
    good = {
        "network": network,
        "family": "a family",
        "parameters": 1_200_000,
        "input": [3, 64, 64],
        "left_as_found": True,
        "answers_differ": True,
        "methods": methods,
        "input_conservation": {"residual": 3e-7},
        "float64": {"layer": 4e-16, "input": 5e-15},
        "seconds": 1.5,
    }
    return good | changes


def with_method(name: str, **changes: Any) -> dict[str, Any]:
    found = measured()
    found["methods"][name] |= changes
    return found


def test_a_network_without_a_problem_is_covered() -> None:
    assert problems(measured()) == []


WRONG: dict[str, dict[str, Any]] = {
    "changed: a hook stayed": measured(left_as_found="a hook stayed"),
    "the network answers the same whatever it sees": measured(answers_differ=False),
    "gradient-error: MethodError: no": with_method("gradient-error", error="MethodError: no"),
    "class-attention: not finite": with_method("class-attention", finite=False),
    "class-attention: constant": with_method("class-attention", constant=True),
    "gradient-error: [4, 5] on a grid of [4, 4]": with_method("gradient-error", shape=[4, 5]),
    "residual 1.1e-04 at the layer in float32": with_method("activation-error", residual=1.1e-4),
    "residual nan at the layer in float32": with_method("activation-error", residual=float("nan")),
    "residual 2.0e-04 at the input in float32": measured(input_conservation={"residual": 2e-4}),
    "no residual at the input in float32": measured(input_conservation={"error": "no"}),
    "residual 2.0e-09 at the layer in float64": measured(float64={"layer": 2e-9, "input": 0.0}),
    "no residual at the input in float64": measured(float64={"layer": 1e-15, "input": None}),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_said(said: str) -> None:
    assert problems(WRONG[said]) == [said]


def test_residuals_at_the_limit_are_small_enough() -> None:
    at_limit = measured(float64=dict.fromkeys(("layer", "input"), LIMITS["float64"]))
    assert problems(at_limit) == []


def test_an_explanation_covers_its_own_problem_and_no_other() -> None:
    [(network, (_, reason))] = EXPLAINED.items()
    known = measured(network, float64={"layer": 6e-8, "input": 5e-8})
    assert len(problems(known)) == 2
    assert unexplained(known) == []
    assert unexplained(known | {"answers_differ": False}) == [
        "the network answers the same whatever it sees"
    ]
    assert unexplained(known | {"network": "timm:another"}) == problems(known)
    large = measured(network, float64={"layer": 0.3, "input": 1e-15})
    assert unexplained(large) == ["residual 3.0e-01 at the layer in float64"]
    assert unexplained({"network": network, "failure": "took too long"}) == ["took too long"]
    assert why(network, problems(known)[0]) == reason


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([[1.0, float("nan")]], "not finite"),
        ([[1.0, float("inf")]], "not finite"),
        ([1.0, 2.0], "no map"),
        ([[2.0, 2.0]], "constant"),
        ([[0.0, 0.0]], "constant"),
        ([[1.0, 2.0]], "right"),
    ],
)
def test_a_map_is_judged_by_itself(values: list[Any], verdict: str) -> None:
    assert _judged(torch.tensor(values))["verdict"] == verdict


FORMULA = np.array([[0.0, 1.0, 0.0], [0.0, 4.0, 2.0]])


def test_the_formula_s_numbers_in_any_scale_are_right() -> None:
    found = _compared(torch.from_numpy(3 * FORMULA + 1), FORMULA)
    assert found == {"verdict": "right", "correlation": pytest.approx(1)}


def test_other_numbers_are_found_by_their_correlation() -> None:
    found = _compared(torch.from_numpy(FORMULA[::-1].copy()), FORMULA)
    assert found["verdict"] == "other numbers"
    assert found["correlation"] < SAME


def test_a_map_that_was_resized_is_compared_at_its_size() -> None:
    large = torch.nn.functional.interpolate(
        torch.from_numpy(FORMULA)[None, None], size=(8, 12), mode="bilinear"
    )[0, 0]
    assert _compared(large, FORMULA)["verdict"] == "right"
    assert _compared(large[:, :8], FORMULA)["verdict"] == "no map", "other proportions"


def test_where_nothing_speaks_for_the_class_a_map_of_zeros_is_right() -> None:
    nothing = np.zeros((2, 3))
    assert _compared(torch.zeros(2, 3), nothing)["verdict"] == "right"
    assert _compared(torch.full((2, 3), float("nan")), nothing)["verdict"] == "right"
    assert _compared(torch.ones(2, 3), nothing)["verdict"] == "other numbers"
    assert _compared(torch.ones(2, 3), None)["verdict"] == "no grid there"


def test_the_page_counts_what_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    beside = {name: {"verdict": "right"} for name in RIVALS}
    refused = beside | {
        "captum LRP": {"verdict": "refused", "error": "TypeError: no | yes", "left": "a hook"}
    }
    [explained] = EXPLAINED
    text = page.written(
        [
            measured("torchvision:one", rivals=refused),
            measured("timm:two", rivals=beside, left_as_found="a hook stayed"),
            measured(explained, float64={"layer": 6e-8, "input": 1e-15}),
            measured("transformers:four"),
            {"network": "transformers:five", "failure": "took more than 1800 seconds"},
        ]
    )
    lines = text.splitlines()
    assert "| torchvision | 1 | 1 | 1 | 2.0e-07 | 3.0e-07 | 4.0e-16 | 5.0e-15 | 1.5 s |" in lines
    assert "| timm | 2 | 1 | 0 | 2.0e-07 | 3.0e-07 | 6.0e-08 | 5.0e-15 | 1.5 s |" in lines
    assert any(line.startswith("| transformers | 2 | 2 | 1 |") for line in lines)
    assert "| `timm:two` | changed: a hook stayed | not explained |" in lines
    assert f"| `{explained}` | residual 6.0e-08 at the layer in float64 | Its linear" in text
    failure = "| `transformers:five` | took more than 1800 seconds | not explained |"
    assert failure in lines
    assert "2 networks." in lines, "the others were asked nothing"
    shown = ["", *page.VERDICTS, "changed"]
    row = next(line for line in lines if line.startswith("| captum LRP |"))
    cells = dict(zip(shown, row.strip("| ").split(" | "), strict=False))
    assert (cells["right"], cells["other numbers"].strip()) == ("1", "")
    assert row.rstrip(" |").endswith("1 | 1"), "one refusal, and one that left something"
    assert "| captum LRP | 1 | `TypeError: no / yes` |" in lines
    assert "| **cvx, all four** | **1** |" in text
    assert "| torchvision:one | 1.2 | 64x64 | `last` | 4x4 | 3e-07 | 5e-15 | yes |" in lines
    assert "| timm:two | 1.2 | 64x64 | `last` | 4x4 | 3e-07 | 5e-15 | no |" in lines


def test_a_page_without_exceptions_says_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    sources = ("torchvision", "timm", "transformers")
    assert "## Exceptions\n\nNone." in page.written([measured(f"{s}:one") for s in sources])
