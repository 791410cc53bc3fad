"""A value for each pixel: regions, signed errors, ground truth from files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_depth.task import Depth, read_values
from PIL import Image
from torch import nn

import cvx_core as cvx
from cvx_core.testing.conformance import TaskConformance

X = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 1, 1),
    )
    with torch.no_grad():
        net[-1].bias.fill_(3.0)
    return net.eval()


def truth() -> np.ndarray:
    found = np.full((32, 32), 3.0)
    found[:16, :16] = 1.0  # the network, which says about 3 everywhere, is too far there
    found[20:, 20:] = 0.0  # unknown
    return found


class TestDepth(TaskConformance):
    component = "depth"
    options = {"rise": {"masks": 8}, "occlusion": {"window": 8}}  # noqa: RUF012
    label = truth()

    def model(self) -> cvx.VisionModel:
        return cvx.VisionModel(network(), task="depth:unit=m")


@pytest.fixture
def model() -> cvx.VisionModel:
    return cvx.VisionModel(network(), task="depth:unit=m")


def test_a_region_is_explained_by_its_mean_value(model: cvx.VisionModel) -> None:
    [found] = cvx.explain(
        model, X, "gradient-error:steps=1", cvx.RegionScore(cvx.Box(0, 0, 16, 16))
    )
    values = model.module(X)[0, 0, :8, :8]
    assert found.target.score == pytest.approx(float(values.mean()), rel=1e-5)
    assert found.unit == "m"
    [same] = cvx.explain(model, X, "gradient-error:steps=1", cvx.parse_target("region 0,0,16,16"))
    np.testing.assert_array_equal(found.values, same.values)


def test_the_error_is_signed_and_counts_known_pixels_alone(model: cvx.VisionModel) -> None:
    [found] = model.predict(X)
    seed, _ = found.resolve(cvx.Error(truth()))
    seed = seed.reshape(16, 16)
    assert (seed[:8, :8] > 0).all()
    assert (seed[10:, 10:] == 0).all()
    known = found.values[:8, :8] - 1.0
    np.testing.assert_allclose(seed[:8, :8] * (16 * 16 - 36), known)


def test_a_region_that_is_too_far_is_one_mistake(model: cvx.VisionModel) -> None:
    [found] = model.predict(X)
    [mistake] = cvx.find_mistakes(found, truth())
    assert mistake.text == "too far: depth"
    assert mistake.region.bounds == (0, 0, 16, 16)
    assert mistake.margin == pytest.approx(float((found.values[:8, :8] - 1).mean()))


def test_ground_truth_is_read_from_files_in_its_unit(tmp_path) -> None:
    Image.fromarray(np.full((4, 4), 2500, np.uint16)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.full((4, 4), 2.5))
    assert read_values(tmp_path / "a.png", 0.001)[0, 0] == pytest.approx(2.5)
    assert Depth().read_label(str(tmp_path / "a.npy"), "", None)[0, 0] == 2.5
    with pytest.raises(cvx.InputError) as caught:
        read_values(tmp_path / "none.npy", 1.0)
    assert caught.value.hint


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 8)])
def test_another_output_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(cvx.ModelError, match="one value for each pixel"):
        Depth().readout(torch.zeros(shape))


def test_a_map_without_channel_and_a_named_one_are_read() -> None:
    values = torch.rand(2, 8, 8)
    for output in (values, {"predicted_depth": values}):
        assert torch.equal(Depth().readout(output)[:, 0], values)


def test_a_class_of_a_region_is_refused(model: cvx.VisionModel) -> None:
    [found] = model.predict(X)
    with pytest.raises(cvx.TargetError, match="no classes") as caught:
        found.resolve(cvx.RegionScore(cvx.Box(0, 0, 9, 9), "person"))
    assert caught.value.hint
