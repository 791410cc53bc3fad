"""EigenCAM (Muhammad and Yeasin 2020, arXiv:2008.00299) by hand, by SVD and by another library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_location_attention.layer_maps import leading
from pytorch_grad_cam import EigenCAM as OtherEigenCAM
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from torch import Tensor

from cvx_core import explain, get_explainer, load_model
from cvx_core.testing import models


def test_two_channels_by_hand() -> None:
    """Cells (3, 4), (0, 0), (6, 8) and (4, -3), one row each.

    The first three lie along (3, 4) / 5 with lengths 5, 0 and 10, the last across with 5. So
    the squared singular values are 125 and 25, the map is 5, 0, 10, 0, its share 125 / 150.
    """
    cells = torch.tensor([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0], [4.0, -3.0]])
    values, share = leading(cells.T.reshape(1, 2, 2, 2))
    np.testing.assert_allclose(values[0], [[5, 0], [10, 0]], atol=1e-12)
    assert float(share) == pytest.approx(125 / 150)


def test_the_sign_makes_the_sum_positive() -> None:
    """The opposite of the activations has the same map: a singular vector has no sign."""
    activation = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    values, _ = leading(activation)
    opposite, _ = leading(-activation)
    torch.testing.assert_close(values, opposite)
    assert (values.sum((1, 2)) > 0).all()


@pytest.mark.parametrize("shape", [(2, 40, 3, 5), (2, 4, 6, 7)], ids=["channels", "cells"])
@pytest.mark.parametrize("centred", [False, True])
def test_the_full_decomposition_gives_the_same(shape: tuple[int, ...], centred: bool) -> None:
    """More channels than cells and fewer, image by image."""
    activation = torch.randn(shape, generator=torch.Generator().manual_seed(1)).double() + 0.3
    found, share = leading(activation, centred=centred)
    for one, part, image in zip(found, share, activation, strict=True):
        cells = image.flatten(1).T
        cells = cells - cells.mean(0) * centred
        u, s, _ = torch.linalg.svd(cells, full_matrices=False)
        expected = (u[:, 0] * s[0]).reshape(shape[2:])
        expected = expected * torch.sign((expected * one).sum())
        # squaring A loses half the digits of float64 where s_1 and s_2 are close
        torch.testing.assert_close(one, expected, rtol=1e-7, atol=1e-7)
        assert float(part) == pytest.approx(float(s[0] ** 2 / s.square().sum()), rel=1e-9)


def test_activations_of_zero_have_a_map_of_zero() -> None:
    values, share = leading(torch.zeros(1, 3, 2, 2))
    assert not values.any()
    assert not share.any()


def test_pytorch_grad_cam_centres_and_leaves_the_sign_open() -> None:
    """Its projection subtracts each channel's mean, which eq. 3 of the paper does not."""
    model = models.convolutional()
    [one] = get_explainer("eigen-cam", layer="third", centred=True).explain(model, models.inputs(1))
    kept: list[Tensor] = []
    handle = model.module.third.register_forward_hook(lambda _m, _a, out: kept.append(out))
    with torch.no_grad():
        model.module(models.inputs(1))
    handle.remove()
    expected = get_2d_projection(kept[0].numpy())[0]
    expected = expected * np.sign((expected * one.values).sum())
    # both in float32
    np.testing.assert_allclose(one.values, expected, atol=1e-5 * np.abs(expected).max())


def test_on_the_real_network_the_whole_of_pytorch_grad_cam_agrees() -> None:
    """After its own rectifying and scaling to 0..1, at the same layer."""
    model = load_model("embedded")
    batch = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    [one] = get_explainer("eigen-cam", centred=True).explain(model, batch)
    layer = model.module.get_submodule(one.provenance["layer"])
    with OtherEigenCAM(model.module, [layer]) as cam:
        expected = cam(batch, targets=None)[0]
    maps = []
    for sign in (1, -1):
        image = np.maximum(one.replace(values=sign * one.values).values, 0)
        image = torch.from_numpy(image.copy())[None, None]
        # the other library resizes with OpenCV's linear interpolation, edges repeated
        large = torch.nn.functional.interpolate(image, (224, 224), mode="bilinear")[0, 0].numpy()
        maps.append((large - large.min()) / (1e-7 + large.max() - large.min()))
    nearest = min(float(np.abs(one - expected).max()) for one in maps)
    assert nearest < 2e-2  # it rescales before and after resizing


def test_after_a_relu_no_value_is_negative_and_the_class_does_not_matter() -> None:
    """Perron and Frobenius: the leading vector of a matrix without negative values has none."""
    model = models.convolutional()
    found = get_explainer("eigen-cam", layer="relu#1").explain(model, models.inputs(3))
    assert all(one.values.min() >= -1e-6 * one.values.max() for one in found)
    assert all(0 < one.evidence["energy_share"] <= 1 for one in found)
    assert all(one.target.text == "where does the model look?" for one in found)


def test_energy_is_the_family_s_map() -> None:
    model, batch = models.convolutional(), models.inputs(1)
    [one] = get_explainer("energy", power=4).explain(model, batch)
    [other] = get_explainer("location-attention", mode="energy", power=4).explain(model, batch)
    np.testing.assert_array_equal(one.values, other.values)
    assert one.unit == other.unit == "|activation|^4"


def test_rollout_is_the_family_s_map() -> None:
    model, batch = models.tokens(), models.inputs(2)
    several = explain(model, batch, ["attention-rollout", "location-attention"])
    for one, other in zip(several[::2], several[1::2], strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert one.evidence["other_tokens_share"] == other.evidence["other_tokens_share"]
