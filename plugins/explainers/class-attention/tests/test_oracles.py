"""The real network on real photographs, against Captum and pytorch-grad-cam."""

from __future__ import annotations

from pathlib import Path

import cvx_embedded
import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM, HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from cvx_core import (
    ClassScore,
    Distribution,
    Predicted,
    VisionModel,
    explain,
    get_explainer,
    load_model,
)

PHOTOGRAPHS = sorted((Path(cvx_embedded.__file__).parent / "photos").glob("*.jpg"))
LAYER = "blocks.5"
"""A layer with a ReLU network behind it, so that Grad-CAM and HiResCAM differ."""


@pytest.fixture(scope="module")
def model() -> VisionModel:
    return load_model("embedded")


@pytest.fixture(scope="module")
def batch(model: VisionModel) -> torch.Tensor:
    return torch.stack([one.tensor for one in model.prepare(PHOTOGRAPHS)])


@pytest.mark.parametrize("layer", ["bn2", LAYER, "blocks.3"])
def test_captum_s_layer_grad_cam_is_the_same(
    model: VisionModel, batch: torch.Tensor, layer: str
) -> None:
    """Captum 0.9 with relu_attributions=False: the same float32 sums in another order."""
    classes = [7, 404]
    oracle = LayerGradCam(model.module, model.module.get_submodule(layer))
    expected = oracle.attribute(batch, classes, relu_attributions=False).detach()[:, 0].numpy()
    found = get_explainer("class-attention", layer=layer).explain(
        model, batch, [ClassScore(c) for c in classes]
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, other, rtol=0, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize(("weighting", "method"), [("grad-cam", GradCAM), ("hires-cam", HiResCAM)])
def test_pytorch_grad_cam_is_the_same_after_its_own_relu_and_scaling(
    model: VisionModel, batch: torch.Tensor, weighting: str, method: type[GradCAM]
) -> None:
    """It returns no raw map: max(map, 0), less its minimum, over its maximum (plus 1e-7).

    Its resizing is left out by asking for the grid's own size.
    """

    class AtTheGrid(method):
        def get_target_width_height(self, _: torch.Tensor) -> tuple[int, int]:
            return 7, 7

    classes = [393, 740]
    with AtTheGrid(model.module, [model.module.get_submodule(LAYER)]) as oracle:
        expected = oracle(batch.clone(), [ClassifierOutputTarget(c) for c in classes])
    found = get_explainer("class-attention", layer=LAYER, weighting=weighting).explain(
        model, batch, [ClassScore(c) for c in classes]
    )
    for one, other in zip(found, expected, strict=True):
        positive = np.maximum(one.values, 0)
        scaled = positive - positive.min()
        scaled = scaled / scaled.max()
        assert 0 < (positive == 0).mean() < 1, "a map without both signs would test no ReLU"
        # twice divided by (1e-7 + max), in float32
        np.testing.assert_allclose(scaled, other, atol=1e-4)


def test_the_map_sums_to_the_logit_less_its_bias(model: VisionModel, batch: torch.Tensor) -> None:
    """The head is global average pooling and one linear layer: sum of C_c = z_c - b_c."""
    logits, bias = model.logits(batch), model.module.get_parameter("classifier.bias").detach()
    for c in (0, 393, 740):
        found = get_explainer("grad-cam").explain(model, batch, ClassScore(c))
        for one, expected in zip(found, (logits[:, c] - bias[c]).tolist(), strict=True):
            assert one.provenance["layer"] == "bn2"
            # 49 cells of 1280 products in float32
            scale = float(np.abs(one.values).sum())
            assert one.evidence["sum"] == pytest.approx(expected, abs=1e-5 * scale)


def test_behind_global_average_pooling_both_weightings_are_one(
    model: VisionModel, batch: torch.Tensor
) -> None:
    """There dz/dA is the same in every cell, so its mean is its value (Draelos 2020)."""
    cam, hires = (
        get_explainer("class-attention", weighting=w).explain(model, batch, Distribution())
        for w in ("grad-cam", "hires-cam")
    )
    for one, other in zip(cam, hires, strict=True):
        scale = np.abs(one.values).max()
        np.testing.assert_allclose(one.values, other.values, rtol=0, atol=1e-5 * scale)


def test_each_photograph_of_a_batch_has_the_map_that_it_has_alone(model: VisionModel) -> None:
    """With another class asked of each."""
    targets = [Predicted(), ClassScore("hammer")]
    together = explain(model, PHOTOGRAPHS[:2], "class-attention", targets)
    for path, target, one in zip(PHOTOGRAPHS, targets, together, strict=True):
        [alone] = explain(model, path, "class-attention", target)
        assert one.target.text == alone.target.text
        # Sums over 8 gradients in float32, of batches of another size.
        scale = np.abs(alone.values).max()
        np.testing.assert_allclose(one.values, alone.values, rtol=0, atol=5e-4 * scale)
    assert together[1].target.classes[0].name == "hammer"
