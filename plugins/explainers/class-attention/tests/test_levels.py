"""Maps of several levels: by hand, and as explainers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_class_attention.levels import smoothed, weighted
from torch import Tensor, nn

from cvx_core import ClassScore, Contrast, Explanation, OptionError, VisionModel, get_explainer
from cvx_core.images import make_baseline
from cvx_core.testing import models


def explain(model: VisionModel, target: ClassScore | Contrast, **parameters: object) -> Explanation:
    """Return the explanation of one image by class-attention."""
    [one] = get_explainer("class-attention", **parameters).explain(model, models.inputs(1), target)
    return one


def test_a_constant_stays_when_it_is_smoothed_and_a_spike_is_spread() -> None:
    torch.testing.assert_close(smoothed(torch.full((1, 5, 7), 3.0)), torch.full((1, 5, 7), 3.0))
    spike = torch.zeros(1, 9, 9)
    spike[0, 4, 4] = 256.0
    assert smoothed(spike)[0, 4].tolist() == [0, 0, 6, 24, 36, 24, 6, 0, 0]


def test_a_coarse_map_is_weighted_by_the_sum_of_scaled_finer_maps_of_its_sign() -> None:
    """Scaled: (1, .5, 0, -1) and (1, -1, 1, 0); their sum over its largest: (1, -.25, .5, -.5)."""
    coarse = torch.tensor([[[8.0, 8.0, 8.0, -4.0]]])
    fine = [torch.tensor([[[4.0, 2.0, 0.0, -4.0]]]), torch.tensor([[[3.0, -3.0, 3.0, 0.0]]])]
    assert weighted(coarse, fine).tolist() == [[[8, 0, 4, -2]]]
    assert weighted(-coarse, [-one for one in fine]).tolist() == [[[-8, 0, -4, 2]]]


def test_a_coarse_value_is_spread_over_the_finer_grid() -> None:
    """6 over two positions is 3 each, of which the second gets half."""
    assert weighted(torch.tensor([[[6.0]]]), [torch.tensor([[[2.0, 1.0]]])]).tolist() == [
        [[3, 1.5]]
    ]


def test_finer_maps_of_zeros_give_zeros() -> None:
    assert not weighted(torch.ones(1, 2, 2), [torch.zeros(1, 4, 4)]).any()


class Squares(nn.Module):
    """z_0 is the sum of squares at a fine grid, and z_1 that of the negative ones, pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.last = nn.Identity(), nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        score = self.last(self.fine(x).square()).sum(dim=(1, 2, 3))
        return torch.stack([score, -score], dim=1)


def test_the_gradient_is_the_mean_along_a_path_from_the_mean_color(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without noise: the gradient of (x_t)^2 / 4 is x_t / 2, whose mean is (x + x') / 4."""
    monkeypatch.setattr("cvx_class_attention.levels._NOISE", 0.0)
    model, x = VisionModel(Squares()), models.inputs(1)
    [one] = get_explainer("class-attention").explain(model, x, ClassScore(0))
    mean = make_baseline("mean", x)
    fine = smoothed((x * (x + mean) / 4).sum(1))
    coarse = nn.functional.avg_pool2d(x.square(), 2).sum(1)
    expected = weighted(coarse, [fine])[0].numpy()
    np.testing.assert_allclose(one.values, expected, atol=1e-5 * np.abs(expected).max())
    assert one.provenance["layer"] == "last, fine"


def test_the_default_names_its_levels_its_path_and_its_unit_and_turns_with_the_contrast() -> None:
    model = VisionModel(models.convolutional().module)
    one, other = explain(model, Contrast(0, 1)), explain(model, Contrast(1, 0))
    assert one.unit == "weighted logits"
    assert one.evidence["additive"] is False
    assert one.evidence["path_gradients"] == 8
    assert one.provenance["baseline"] == "mean"
    assert one.provenance["layer"] == "relu#1, relu#0"
    assert one.values.shape == (16, 16)
    assert np.abs(one.values).max() > 0
    np.testing.assert_allclose(one.values, -other.values, atol=1e-6 * np.abs(one.values).max())
    named = explain(model, Contrast(0, 1), weighting="path")
    np.testing.assert_array_equal(one.values, named.values)


def test_the_default_at_a_named_layer_is_grad_cam() -> None:
    model = VisionModel(models.convolutional().module)
    one, other = (
        explain(model, ClassScore(0), layer="relu#1", weighting=name)
        for name in ("auto", "grad-cam")
    )
    np.testing.assert_array_equal(one.values, other.values)
    assert one.unit == "logits"


def test_the_default_of_a_transformer_is_a_map_of_its_first_tokens() -> None:
    model = models.tokens()
    one = explain(model, ClassScore(0))
    assert one.provenance["layer"] == "patches"
    assert "first tokens" in one.provenance["layer_reason"]
    assert one.evidence["path_gradients"] == 8
    assert one.values.shape == (4, 4)
    back = explain(model, Contrast(1, 0)).values
    forth = explain(model, Contrast(0, 1)).values
    np.testing.assert_allclose(forth, -back, atol=1e-6 * np.abs(forth).max())


def test_agreement_names_its_levels_and_its_unit_and_turns_with_the_contrast() -> None:
    model = VisionModel(models.convolutional().module)
    one = explain(model, Contrast(0, 1), weighting="agreement")
    other = explain(model, Contrast(1, 0), weighting="agreement")
    assert one.unit == "agreement"
    assert one.evidence["additive"] is False
    assert ", " in one.provenance["layer"]
    np.testing.assert_allclose(one.values, -other.values, atol=1e-7 * np.abs(one.values).max())
    usual = explain(model, Contrast(0, 1), weighting="grad-cam")
    assert usual.provenance["layer"] == one.provenance["layer"].partition(", ")[0]


def test_with_one_grid_agreement_is_grad_cam() -> None:
    model, batch = models.tokens(), models.inputs(1)
    one, other = (
        get_explainer("class-attention", weighting=name).explain(model, batch)[0]
        for name in ("agreement", "grad-cam")
    )
    np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize("weighting", ["path", "agreement"])
@pytest.mark.parametrize("given", [{"layer": "relu#1"}, {"layers": ("relu#1",)}])
def test_weightings_of_several_levels_take_no_layer(
    weighting: str, given: dict[str, object]
) -> None:
    with pytest.raises(OptionError, match=f"weighting={weighting} .* takes no layer"):
        get_explainer("class-attention", weighting=weighting, **given)
