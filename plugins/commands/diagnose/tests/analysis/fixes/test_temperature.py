"""Temperature scaling, evaluated on inputs that it had not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cvx_diagnose.analysis.fixes import temperature
from cvx_diagnose.analysis.fixes.halves import Halves


def halves(count: int, factor: float, monkeypatch: pytest.MonkeyPatch) -> tuple[Halves, np.ndarray]:
    """Return inputs whose labels are drawn from the softmax of logits, which are then scaled."""
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, (count, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([draw.choice(4, p=one) for one in p])

    class Rows:
        def __init__(self, _: Any) -> None:
            pass

        def gather(self, column: str, positions: Any) -> Any:
            assert column == "logits"
            return (factor * logits)[positions]

    monkeypatch.setattr(temperature, "LabeledRows", Rows)
    at = np.arange(count)
    correct = logits.argmax(1) == labels
    made = Halves(at, at, labels, correct, logits, 1.0, at[: count // 2], at[count // 2 :])
    return made, factor * logits


def test_the_factor_that_spoiled_the_logits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    made, logits = halves(4000, 3.0, monkeypatch)
    fix = temperature.try_temperature(None, made)  # type: ignore[arg-type]
    # The standard error of the maximum-likelihood estimate of 2,000 draws is some 3 %.
    assert fix["temperature"] == pytest.approx(3.0, rel=0.12)
    p = np.exp(logits[2000:]) / np.exp(logits[2000:]).sum(1, keepdims=True)
    error = temperature.calibration_error(p.max(1), made.correct[2000:])
    assert fix["before"] == pytest.approx(1 - error)
    assert fix["before"] < 0.85
    assert fix["after"] > 0.96
    assert fix["low"] > 0
    assert fix["gain"] == 0


def test_logits_that_are_calibrated_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = halves(4000, 1.0, monkeypatch)
    fix = temperature.try_temperature(None, made)  # type: ignore[arg-type]
    assert fix["temperature"] == pytest.approx(1.0, rel=0.12)
    assert fix["low"] <= 0.01
