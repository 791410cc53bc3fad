"""Networks of segmentation-models-pytorch are explained as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import cvx_core as cvx
from cvx_core import ModelError, VisionModel

smp = pytest.importorskip(
    "segmentation_models_pytorch", reason="measured by tests/dense where it is installed"
)
X = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
BINARY = ("background", "crack")


def unet(**options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return smp.Unet("resnet18", encoder_weights=None, **options).eval().double()


def test_a_decoder_is_explained_with_nothing_lost() -> None:
    model = VisionModel(unet(classes=3), task="segmentation")
    for target in (cvx.Predicted(), cvx.PixelScore(10, 12)):
        [made] = cvx.explain(model, X, "activation-error", target)
        rows = made.evidence.get("levels", [made.evidence])
        assert max(row["residual"] for row in rows) < 1e-12
        assert np.ptp(made.values) > 0


def test_a_binary_head_has_a_map_for_both_classes() -> None:
    net = unet(classes=1)
    model = VisionModel(net, task="segmentation", classes=BINARY)
    region = cvx.RegionScore(cvx.Box(0, 0, 16, 16), "crack")
    [crack] = cvx.explain(model, X, "class-attention", region)
    [other] = cvx.explain(
        model, X, "class-attention", cvx.RegionScore(cvx.Box(0, 0, 16, 16), "background")
    )
    assert np.allclose(crack.values, -other.values)
    assert crack.values.any()
    with torch.no_grad():
        logit = net(X)[0, 0]
    [prediction] = model.predict(X)
    assert np.allclose(prediction.logits, torch.stack([-logit / 2, logit / 2]))


def test_a_sigmoid_at_the_end_is_left_out() -> None:
    plain, squashed = unet(classes=1), unet(classes=1, activation="sigmoid")
    squashed.load_state_dict(plain.state_dict())
    maps = [
        cvx.explain(
            VisionModel(net, task="segmentation", classes=BINARY, activation=activation),
            X,
            "class-attention",
            cvx.RegionScore(cvx.Box(0, 0, 16, 16), "crack"),
        )[0].values
        for net, activation in ((plain, None), (squashed, "sigmoid"))
    ]
    assert np.allclose(*maps, atol=1e-6)


def test_a_binary_head_without_names_is_asked_about() -> None:
    with pytest.raises(ModelError) as caught:
        VisionModel(unet(classes=1), task="segmentation").predict(X)
    assert "classes=[" in caught.value.hint
