"""What several levels agree on: by hand, and as an explainer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_class_attention.levels import smoothed

from cvx_core import Contrast, OptionError, VisionModel, get_explainer
from cvx_core.testing import models


def test_a_constant_stays_when_it_is_smoothed_and_a_spike_is_spread() -> None:
    torch.testing.assert_close(smoothed(torch.full((1, 5, 7), 3.0)), torch.full((1, 5, 7), 3.0))
    spike = torch.zeros(1, 9, 9)
    spike[0, 4, 4] = 256.0
    assert smoothed(spike)[0, 4].tolist() == [0, 0, 6, 24, 36, 24, 6, 0, 0]


def test_the_explainer_names_its_levels_and_its_unit_and_turns_with_the_contrast() -> None:
    explainer = get_explainer("class-attention", weighting="agreement")
    model = VisionModel(models.convolutional().module)
    [one] = explainer.explain(model, models.inputs(1), Contrast(0, 1))
    [other] = explainer.explain(model, models.inputs(1), Contrast(1, 0))
    assert one.unit == "agreement"
    assert one.evidence["additive"] is False
    assert ", " in one.provenance["layer"]
    np.testing.assert_allclose(one.values, -other.values, atol=1e-7 * np.abs(one.values).max())
    [usual] = get_explainer("class-attention").explain(model, models.inputs(1), Contrast(0, 1))
    assert usual.unit == "logits"
    assert usual.provenance["layer"] == one.provenance["layer"].partition(", ")[0]


def test_with_one_grid_it_is_grad_cam() -> None:
    model, batch = models.tokens(), models.inputs(1)
    one, other = (
        get_explainer("class-attention", weighting=name).explain(model, batch)[0]
        for name in ("agreement", "grad-cam")
    )
    np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize("given", [{"layer": "relu#1"}, {"layers": ("relu#1",)}])
def test_it_takes_no_layer(given: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="takes no layer"):
        get_explainer("class-attention", weighting="agreement", **given)
