"""Regression: values with units, deviations as mistakes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_regression.task import Deviation, Regression, read_values
from torch import nn

import cvx_core as cvx
from cvx_core.testing.conformance import TaskConformance

X = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def network(bias: tuple[float, ...] = (58.0,)) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, len(bias)),
    )
    with torch.no_grad():
        net[-1].bias.copy_(torch.tensor(bias))
    return net.eval()


class TestRegression(TaskConformance):
    component = "regression"
    options = {"rise": {"masks": 8}, "occlusion": {"window": 8}}  # noqa: RUF012
    label = 40.0
    label_text = "40 years"

    def model(self) -> cvx.VisionModel:
        task = Regression(unit="years", tolerance=5)
        return cvx.VisionModel(network(), classes=["age"], task=task)


@pytest.fixture
def model() -> cvx.VisionModel:
    return cvx.VisionModel(network(), classes=["age"], task="regression:unit=years,tolerance=5")


def test_the_value_has_its_unit_and_no_probability(model: cvx.VisionModel) -> None:
    [found] = cvx.explain(model, X, "gradient-error:steps=1", label=40)
    value = float(model.module(X))
    assert found.target.predicted.score == pytest.approx(value, rel=1e-6)
    assert found.target.predicted.probability is None
    assert found.target.predicted.text == f"age {value:.3g} years"
    assert found.unit == "years"
    assert (found.target.truth, found.target.correct) == ("age=40 years", False)


def test_the_error_is_the_gradient_of_half_the_squared_error(model: cvx.VisionModel) -> None:
    value = model.module(X).detach().double().requires_grad_()
    (0.5 * (value - 40) ** 2).sum().backward()
    seed, _ = model.predict(X)[0].resolve(cvx.Error(40))
    np.testing.assert_allclose(seed, value.grad[0].numpy(), rtol=1e-6)


def test_a_deviation_within_the_tolerance_is_no_mistake(model: cvx.VisionModel) -> None:
    [found] = model.predict(X)
    assert cvx.find_mistakes(found, found.values[0] + 4) == []
    [low] = cvx.find_mistakes(found, found.values[0] + 8)
    assert low.text == "too low: age"
    assert low.target == Deviation(0, -1.0)
    assert low.margin == pytest.approx(3.0)


def test_several_values_are_told_apart_by_name() -> None:
    model = cvx.VisionModel(network((58.0, 1.8)), classes=["age", "height"], task="regression")
    [found] = model.predict(X)
    seed, _ = found.resolve(cvx.Error({"height": 1.0}))
    assert seed[0] == 0
    assert seed[1] == pytest.approx(found.values[1] - 1.0)
    with pytest.raises(cvx.TargetError, match="must name one of the 2 values"):
        found.resolve(cvx.Error(3.0))


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("61.5", 61.5),
        ("61.5 years", 61.5),
        (" -3e-2", -0.03),
        (3, 3.0),
        ("age=4, b=5 cm", {"age": 4.0, "b": 5.0}),
    ],
)
def test_values_are_read_from_numbers_and_text(given: object, value: object) -> None:
    assert read_values(given) == value


@pytest.mark.parametrize("given", ["old", "", True, None, [1, 2]])
def test_other_labels_are_refused_with_a_way_out(given: object) -> None:
    with pytest.raises(cvx.TargetError) as caught:
        read_values(given)
    assert caught.value.hint
