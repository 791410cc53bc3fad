"""The variants beside pytorch-grad-cam: where they agree, and who is right where they don't.

It returns no raw map but max(map, 0), less its minimum, over its maximum (plus 1e-7). Its resizing
is left out by asking for the grid's own size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cvx_embedded
import numpy as np
import pytest
import pytorch_grad_cam as other
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cvx_core import ClassScore, Margin, VisionModel, get_explainer, load_model
from cvx_core.testing import models

PHOTOGRAPHS = sorted((Path(cvx_embedded.__file__).parent / "photos").glob("*.jpg"))


@pytest.fixture
def rectified() -> VisionModel:
    """A ReLU network, the ReLU "3" giving 12 channels of 16 x 16 cells, with another behind it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, 5),
        )
    return VisionModel(net.eval())


def theirs(
    method: Any, model: VisionModel, batch: Tensor, layer: str, classes: list[int]
) -> np.ndarray:
    grid = get_explainer("hires-cam", layer=layer).explain(model, batch[:1])[0].values.shape

    class AtTheGrid(method):  # type: ignore[misc]
        def get_target_width_height(self, _: Tensor) -> tuple[int, int]:
            return grid[1], grid[0]

    with AtTheGrid(model.module, [model.module.get_submodule(layer)]) as oracle:
        return oracle(batch.clone(), [ClassifierOutputTarget(c) for c in classes])


def ours(
    name: str, model: VisionModel, batch: Tensor, layer: str, classes: list[int]
) -> np.ndarray:
    targets = [ClassScore(c) for c in classes]
    found = get_explainer(name, layer=layer).explain(model, batch, targets)
    positive = np.maximum([one.values for one in found], 0)
    scaled = positive - positive.min((1, 2), keepdims=True)
    return scaled / scaled.max((1, 2), keepdims=True)


@pytest.mark.parametrize(
    ("name", "method"), [("xgrad-cam", other.XGradCAM), ("layer-cam", other.LayerCAM)]
)
def test_gradient_weightings_agree_on_the_real_network(name: str, method: Any) -> None:
    """In XGrad-CAM it adds 1e-7 to sums of activations, here of the order of 1."""
    model, layer, classes = load_model("embedded"), "blocks.5", [393, 740]
    batch = torch.stack([one.tensor for one in model.prepare(PHOTOGRAPHS)])
    expected = theirs(method, model, batch, layer, classes)
    np.testing.assert_allclose(ours(name, model, batch, layer, classes), expected, atol=2e-4)


def test_grad_cam_plus_plus_agrees_where_the_gradients_are_large(rectified: VisionModel) -> None:
    """It adds 1e-6 to alpha's denominator, 2 g^2 + g^3 sum A, which the paper does not.

    With the logits in units of a millionth that is nothing; as they are, it changes the map, and
    it is the library that gives way.
    """
    batch, classes = models.inputs(2), [1, 3]
    theirs_small = theirs(other.GradCAMPlusPlus, rectified, batch, "3", classes)
    with torch.no_grad():
        rectified.module.get_parameter("8.weight").mul_(1e6)
    expected = theirs(other.GradCAMPlusPlus, rectified, batch, "3", classes)
    found = ours("grad-cam-plus-plus", rectified, batch, "3", classes)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(theirs_small - expected).max() > 0.01


def test_ablation_cam_agrees_behind_a_relu(rectified: VisionModel) -> None:
    """Its layer sets an ablated channel to zero, as the paper does, where none is negative.

    (Else it sets it to the minimum less 1e7, and a linear head's answer to that is no ablation.)
    """
    batch, classes = models.inputs(2), [1, 1]
    with torch.no_grad():  # a score of which the activations make most, and not the biases
        for name in ("4", "8"):
            rectified.module.get_parameter(f"{name}.bias").zero_()
        rectified.module.get_parameter("8.weight")[1].abs_()
    expected = theirs(other.AblationCAM, rectified, batch, "3", classes)
    found = ours("ablation-cam", rectified, batch, "3", classes)
    # It keeps scores in float32, and a channel's drop is a difference of two.
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_score_cam_agrees_when_it_enlarges_in_the_same_way(
    rectified: VisionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It enlarges with aligned corners, which moves the cells' centres to the image's edge; the
    authors' code does not, nor do cells lie there.

    Constant channels get a black image from it and share in the softmax, which scales the map and
    no more. (torchcam normalises before it enlarges, so that its masks don't reach 1.)
    """
    batch, classes = models.inputs(2), [1, 3]
    found = ours("score-cam", rectified, batch, "3", classes)
    stretched = theirs(other.ScoreCAM, rectified, batch, "3", classes)
    with monkeypatch.context() as patched:
        patched.setattr(
            nn, "UpsamplingBilinear2d", lambda size: nn.Upsample(size=size, mode="bilinear")
        )
        expected = theirs(other.ScoreCAM, rectified, batch, "3", classes)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.abs(stretched - expected).max() > 1e-6


class Convolutions(TorchDispatchMode):
    """Counts images that convolutions with data take in."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ == "convolution" and not args[0].is_meta:
            self.images += len(args[0])
        return func(*args, **(kwargs or {}))


def test_ablation_cam_runs_the_part_behind_the_layer_alone() -> None:
    """Of 1280 channels those that are active on the photograph, through pooling and one layer."""
    model = load_model("embedded")
    once = get_explainer("ablation-cam")
    once.explain(model, PHOTOGRAPHS[0])  # finds the layer, once for each model
    with Convolutions() as plain:
        get_explainer("grad-cam").explain(model, PHOTOGRAPHS[0])
    with Convolutions() as counted:
        [one] = once.explain(model, PHOTOGRAPHS[0])
    assert 100 < one.evidence["reruns"] <= 1280
    assert counted.images == plain.images, "the convolutions ran for the recording alone"


def test_score_cam_of_no_question_is_zero() -> None:
    model = models.convolutional()
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    right = int(model.logits(x).argmax())
    [made] = get_explainer("score-cam").explain(model, x, Margin(), label=right)
    assert not made.values.any()
    [asked] = get_explainer("score-cam").explain(model, x)
    assert asked.values.any()
