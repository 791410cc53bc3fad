"""Key points: peaks of heat maps, misplaced points as mistakes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_key_points.task import KeyPoints, Misplacement, PointPrediction, read_points
from torch import nn

import cvx_core as cvx
from cvx_core.testing.conformance import TaskConformance

X = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
NAMES = ["nose", "left eye", "right eye"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 3, 1),
    ).eval()


def model() -> cvx.VisionModel:
    return cvx.VisionModel(network(), classes=NAMES, task="key-points")


def far() -> dict[str, tuple[float, float]]:
    """True positions on the other side of the image than the predicted ones."""
    [found] = model().predict(X)
    places = [found.place(k) for k in range(2)]
    return {name: (32 - x, 32 - y) for name, (x, y) in zip(NAMES, places, strict=False)}


class TestKeyPoints(TaskConformance):
    component = "key-points"
    options = {"rise": {"masks": 8}, "occlusion": {"window": 8}}  # noqa: RUF012
    label_text = "nose=1,2; left eye=30.5,4"

    @property
    def label(self) -> dict[str, tuple[float, float]]:  # type: ignore[override]
        return far()

    def model(self) -> cvx.VisionModel:
        return model()


def prediction(tolerance: float = 0.05) -> PointPrediction:
    """Two points on a grid of 2 x 4 over an image of 40 x 20: peaks at (35, 5) and (5, 15)."""
    heat = np.array([[[0.0, 0.1, 0.2, 0.9], [0.3] * 4], [[0.0] * 4, [0.8, 0.1, 0.1, 0.1]]])
    frame = cvx.Frame((0, 0, 40, 20), (4, 2), (40, 20))
    return PointPrediction(heat, frame, ("nose", "left eye"), tolerance)


def test_a_point_is_at_the_peak_of_its_heat_map() -> None:
    found = prediction()
    assert [found.place(k) for k in range(2)] == [(35, 5), (5, 15)]
    seed, record = found.resolve(cvx.parse_target("left eye"))
    assert (record.text, record.score) == ("why is left eye at 5,15?", 0.8)
    assert list(np.flatnonzero(seed)) == [8 + 4]
    assert found.resolve(cvx.Predicted())[1].score == pytest.approx(0.9 + 0.8)


def test_a_misplaced_point_is_a_mistake_with_the_difference_in_heat() -> None:
    found = prediction()
    assert found.limit == 2
    truth = {"nose": (5.0, 5.0), "left eye": (6.0, 15.0)}
    [wrong] = cvx.find_mistakes(found, truth)
    assert (wrong.text, wrong.loss) == ("misplaced: nose at 35,5", 30)
    assert wrong.target == Misplacement(0, (35, 5), (5, 5))
    assert wrong.margin == pytest.approx(0.9 - 0.0)
    seed, record = found.resolve(cvx.Margin(truth))
    assert list(seed[:4]) == [-1, 0, 0, 1]
    assert not seed[4:].any()
    assert record.text == "why is nose at 35,5 and not at 5,5?"
    assert (record.correct, record.truth) == (False, "nose at 5,5; left eye at 6,15")
    assert found.resolve(cvx.Predicted(), truth)[1].correct is False


def test_a_point_that_moves_to_its_true_position_is_right() -> None:
    [wrong] = cvx.find_mistakes(prediction(), {"nose": (5, 5)})
    found = prediction()
    found.heat[0, 0] = [0.9, 0, 0, 0]
    judged = wrong.judge(found)
    assert judged.right
    assert judged.margin == pytest.approx(-0.9)


def test_points_within_the_tolerance_or_one_position_of_the_grid_are_right() -> None:
    assert cvx.find_mistakes(prediction(), {"nose": (33, 5)}) == []
    assert cvx.find_mistakes(prediction(0.0), {"nose": (31, 5)}) == []
    seed, record = prediction().resolve(cvx.Error({"nose": (33, 5)}))
    assert not seed.any()
    assert "within the tolerance" in record.note
    with pytest.raises(cvx.OptionError):
        KeyPoints(tolerance=-1)


def test_heat_maps_are_read_from_an_output_that_names_them() -> None:
    heat = torch.rand(2, 3, 4, 4)
    for output in (heat, {"heatmaps": heat, "mask": torch.zeros(2, 1, 9, 9)}):
        assert torch.equal(KeyPoints().readout(output), heat)


def test_maps_and_why_are_had_of_a_misplaced_point() -> None:
    assert cvx.why(model(), X, far()).type == "misplaced"
    text = "; ".join(f"{name}={x},{y}" for name, (x, y) in far().items())
    one, other = (
        cvx.explain(model(), X, "class-attention", cvx.Margin(), label=label)[0]
        for label in (far(), read_points(text))
    )
    np.testing.assert_array_equal(one.values, other.values)
    assert one.unit == "heat"


@pytest.mark.parametrize("given", ["nose", "", 3, None])
def test_other_labels_are_refused_with_a_way_out(given: object) -> None:
    with pytest.raises(cvx.TargetError) as caught:
        read_points(given)
    assert caught.value.hint


@pytest.mark.parametrize("given", ["nose=1,2; left eye=x", "nose=1", {"nose": 3}])
def test_a_label_that_is_wrong_in_part_is_refused(given: object) -> None:
    with pytest.raises(cvx.TargetError, match="positions by name"):
        read_points(given)
    assert read_points("nose=.5,80; left eye=1e2,4") == {"nose": (0.5, 80), "left eye": (100, 4)}
