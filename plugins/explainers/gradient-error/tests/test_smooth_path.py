"""The default map: its path, its contrast, and what it records."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_gradient_error import smooth_path
from cvx_gradient_error.smooth_path import SmoothPath
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from cvx_core import ClassScore, OptionError, VisionModel, get_explainer
from cvx_core.testing import models

SIDE = 28
"""So that the filters are 1 and 4 pixels wide, and the blur of the path 3.5."""


class Weighted(nn.Module):
    """z_0 = the sum of w x, so that the gradient is w everywhere; it keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2, SIDE, SIDE, generator=generator).double())
        self.given: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.given.append(x.detach())
        first = (self.weight * x).sum((1, 2, 3))
        return torch.stack([first, 0 * first], 1)


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()


def detail(image: Tensor) -> np.ndarray:
    """Return the image less its blur, by SciPy."""
    blurred = [gaussian_filter(c, SIDE / 8, mode="nearest", truncate=2) for c in image[0].numpy()]
    return image[0].numpy() - np.stack(blurred)


def test_the_path_has_the_midpoints_of_equal_steps(
    image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x' + t d for t = 1/8, 3/8, 5/8, 7/8, without the noise."""
    monkeypatch.setattr(smooth_path, "_NOISE", 0.0)
    net = Weighted()
    SmoothPath(4).explain(VisionModel(net), image, ClassScore(0))
    left = np.array([7, 5, 3, 1])[:, None, None, None] / 8
    expected = image.numpy() - left * detail(image)
    np.testing.assert_allclose(torch.cat(net.given)[-4:], expected, atol=1e-12)


def test_the_noise_is_a_tenth_of_the_range(image: Tensor) -> None:
    net = Weighted()
    SmoothPath(16).explain(VisionModel(net), 5 * image, ClassScore(0))
    left = (1 - (np.arange(16) + 0.5) / 16)[:, None, None, None]
    noise = torch.cat(net.given)[-16:].numpy() - 5 * (image.numpy() - left * detail(image))
    # 25088 normal numbers: their deviation is known to 1 in 200
    assert noise.std() == pytest.approx(0.5 * float(image.max() - image.min()), rel=0.02)


def test_the_map_is_the_change_per_contrast_on_which_both_scales_agree(image: Tensor) -> None:
    net = Weighted()
    [one] = SmoothPath(2).explain(VisionModel(net), image, ClassScore(0))
    d = detail(image)
    squares, products = (d**2).sum(0), (d * net.weight.detach().numpy()).sum(0)
    fine, coarse = (
        gaussian_filter(products, s, mode="constant", truncate=2)
        / np.sqrt(gaussian_filter(squares, s, mode="constant", truncate=2) + 0.05 * squares.mean())
        for s in (1, 4)
    )
    least = np.minimum(abs(fine) / abs(fine).max(), abs(coarse) / abs(coarse).max())
    expected = np.where(fine * coarse > 0, np.sign(fine) * least * abs(fine).max(), 0)
    # the map is float32
    np.testing.assert_allclose(one.values, expected, rtol=1e-5, atol=1e-7)


def test_an_image_without_detail_has_a_map_of_zeros() -> None:
    [one] = SmoothPath(2).explain(
        VisionModel(Weighted()), torch.full((1, 2, SIDE, SIDE), 0.5).double(), ClassScore(0)
    )
    np.testing.assert_allclose(one.values, 0, atol=1e-6)


def test_the_default_records_what_was_done() -> None:
    """A pass for the prediction, and two of 16 images each."""
    [one] = get_explainer("gradient-error").explain(
        models.convolutional(), models.inputs(1), ClassScore(0)
    )
    assert one.unit == "logits per unit of contrast"
    assert (one.evidence["forwards"], one.evidence["backwards"]) == (3, 2)
    assert (one.evidence["path_gradients"], one.additive) == (32, False)
    assert (one.provenance["output"], one.provenance["layer"]) == ("smooth", "input")
    assert one.provenance["baseline"] == "Gaussian blur, sigma 4.0 px"
    assert one.provenance["parameters"]["baseline"] is None


def test_a_path_of_one_step_is_recorded_as_the_signed_map_that_it_is() -> None:
    [one] = get_explainer("gradient-error", steps=1).explain(
        models.convolutional(), models.inputs(1), ClassScore(0)
    )
    assert (one.unit, one.provenance["output"], one.additive) == ("logits", "signed", True)
    assert "baseline" not in one.provenance


@pytest.mark.parametrize(
    ("parameters", "said", "way_out"),
    [
        ({"baseline": "blur"}, "'smooth' has no baseline", "Omit baseline, or use output=path."),
        ({"tolerance": 0.01}, "'smooth' has no tolerance", "output=path"),
        ({"output": "signed", "baseline": "zero"}, "'signed' has no baseline", "output=path"),
        ({"output": "sensitivity", "steps": 8}, "'sensitivity' has no steps", "output=smooth or"),
    ],
)
def test_an_option_without_effect_is_refused(
    parameters: dict[str, object], said: str, way_out: str
) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        get_explainer("gradient-error", **parameters)
    assert way_out in caught.value.hint


def test_the_range_of_steps_has_the_one_that_is_allowed() -> None:
    with pytest.raises(OptionError, match="from 1 to 1000, got 0"):
        get_explainer("gradient-error", steps=0)
