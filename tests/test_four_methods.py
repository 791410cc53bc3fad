"""What the four methods have in common: parameters, layers, labels, precisions, batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cvx_core import (
    ClassScore,
    CvxError,
    LayerError,
    OptionError,
    Target,
    TargetError,
    VisionModel,
    explain,
    get_explainer,
)
from cvx_core.testing import models

METHODS = ("class-attention", "location-attention", "gradient-error", "activation-error")
WITH_LAYER = ("class-attention", "location-attention", "activation-error")
NEEDS_LABEL = ("gradient-error", "activation-error")
Build = Callable[[], VisionModel]

networks = pytest.mark.parametrize("build", [models.convolutional, models.tokens])


def wrong(model: VisionModel, batch: torch.Tensor) -> list[int]:
    """Return labels that the model does not answer."""
    return [int((c + 1) % 5) for c in model.logits(batch).argmax(1)]


@pytest.mark.parametrize(
    ("method", "written", "meant"),
    [
        ("class-attention", "wieghting", "weighting"),
        ("location-attention", "qurey", "query"),
        ("gradient-error", "step", "steps"),
        ("activation-error", "verfy", "verify"),
    ],
)
def test_a_misspelt_parameter_is_refused_with_the_nearest(
    method: str, written: str, meant: str
) -> None:
    with pytest.raises(OptionError, match=f"no parameter '{written}'") as caught:
        get_explainer(method, **{written: 1})
    assert repr(meant) in caught.value.hint


@pytest.mark.parametrize("method", WITH_LAYER)
def test_a_misspelt_layer_is_refused_with_the_nearest(method: str) -> None:
    with pytest.raises(LayerError, match="no layer 'thrid'") as caught:
        get_explainer(method, layer="thrid").explain(
            models.convolutional(), models.inputs(1), label=0
        )
    assert "'third'" in caught.value.hint


@pytest.mark.parametrize("method", WITH_LAYER)
def test_a_layer_without_a_grid_is_refused_with_those_that_have_one(method: str) -> None:
    with pytest.raises(LayerError, match=r"'head' has shape \(5\), which is not a grid") as caught:
        get_explainer(method, layer="head").explain(
            models.convolutional(), models.inputs(1), label=0
        )
    assert "third" in caught.value.hint


@pytest.mark.parametrize("method", WITH_LAYER)
def test_a_named_layer_is_the_one_explained(method: str) -> None:
    """The first convolution has 16 x 16 cells; the automatic choice has 8 x 8 and says why."""
    model, batch = models.convolutional(), models.inputs(1)
    of_one_layer = {
        "class-attention": ":weighting=grad-cam",
        "location-attention": ":mode=energy",
        "activation-error": ":rule=frozen",
    }
    method += of_one_layer[method]
    [named] = get_explainer(method, layer="first").explain(model, batch, ClassScore(0))
    assert named.values.shape == (16, 16)
    assert named.provenance["layer"] == "first"
    assert named.provenance["layer_reason"] == "named by the caller"
    [auto] = get_explainer(method).explain(model, batch, ClassScore(0))
    assert auto.values.shape == (8, 8)
    assert "8 x 8 positions" in auto.provenance["layer_reason"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_asks_for_a_label_only_where_its_question_is_about_the_truth(
    method: str,
) -> None:
    model, batch = models.convolutional(), models.inputs(1)
    if method in NEEDS_LABEL:
        with pytest.raises(TargetError, match="no label was given") as caught:
            explain(model, batch, method)
        assert "label=..." in caught.value.hint
        assert "Predicted()" in caught.value.hint
    else:
        assert len(explain(model, batch, method)) == 1
    # any method answers any question that needs no truth
    assert len(explain(model, batch, method, ClassScore("dog"))) == 1


@pytest.mark.parametrize("method", METHODS)
@networks
def test_bfloat16_gives_the_map_of_float64_as_far_as_its_eight_bits_reach(
    build: Build, method: str
) -> None:
    """Not the same numbers (units near zero switch), but the same picture."""
    batch = models.inputs(2)
    exact, coarse = build().to(dtype=torch.float64), build().to(dtype=torch.bfloat16)
    labels = wrong(exact, batch)
    for one, other in zip(
        explain(exact, batch, method, ClassScore(1), labels),
        explain(coarse, batch, method, ClassScore(1), labels),
        strict=True,
    ):
        assert other.provenance["dtype"] == "bfloat16"
        assert other.values.dtype == np.float32
        assert np.corrcoef(one.values.ravel(), other.values.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("method", METHODS)
@networks
def test_float32_gives_the_map_of_float64(build: Build, method: str) -> None:
    batch = models.inputs(2)
    labels = wrong(build(), batch)
    for one, other in zip(
        explain(build().to(dtype=torch.float64), batch, method, label=labels),
        explain(build(), batch, method, label=labels),
        strict=True,
    ):
        scale = np.abs(one.values).max()
        np.testing.assert_allclose(other.values, one.values, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("method", METHODS)
@networks
def test_images_of_one_batch_have_their_own_labels_and_targets(build: Build, method: str) -> None:
    """Each is answered as if it had been asked alone."""
    model, batch = build().to(dtype=torch.float64), models.inputs(3)
    labels = wrong(model, batch)
    explainer = get_explainer(method)
    default = explainer.default_target
    targets: list[Target] = [ClassScore(4), default, default]
    together = explainer.explain(model, batch, targets, labels)
    for i, one in enumerate(together):
        [alone] = explainer.explain(model, batch[i : i + 1], targets[i], labels[i])
        assert one.target.text == alone.target.text
        assert one.target.label is not None
        assert one.target.label.index == labels[i]
        scale = np.abs(alone.values).max()
        np.testing.assert_allclose(one.values, alone.values, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("method", METHODS)
def test_a_class_that_the_model_never_answers_is_explained_like_any_other(method: str) -> None:
    """Its logit is always lowest, its probability below 1e-6; its map is not zero for that."""
    model, batch = models.convolutional(), models.inputs(2)
    with torch.no_grad():
        model.module.head.bias[4] -= 20
    assert model.logits(batch).softmax(1)[:, 4].max() < 1e-6
    for one in explain(model, batch, method, ClassScore("eel")):
        # A map weighted by the probability would be a million times smaller.
        assert np.abs(one.values).max() > 1e-8
        if get_explainer(method).class_specific:
            assert one.target.probability is not None
            assert one.target.probability < 1e-6
            assert one.target.classes[0].name == "eel"


@pytest.mark.parametrize("method", METHODS)
@networks
def test_a_model_in_training_mode_is_explained_in_evaluation_mode_and_stays_in_training(
    build: Build, method: str
) -> None:
    """Dropout and batch statistics would change the map; the counters of batches must not move."""
    expected = explain(build(), models.inputs(2), method, ClassScore(1))
    model = build()
    model.module.train()
    before = {name: t.clone() for name, t in model.module.state_dict().items()}
    found = explain(model, models.inputs(2), method, ClassScore(1))
    assert all(module.training for module in model.module.modules())
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.values, other.values)


def test_the_four_methods_take_few_forward_passes() -> None:
    """Gradients of two images on paths run 16 at a time: 16 and 64 of them.

    Location attention needs layers that class attention recorded before it, and the others need
    others.
    """
    model, batch = models.convolutional(), models.inputs(2)
    found = explain(model, batch, METHODS, label=wrong(model, batch))
    passes = {one.method: one.evidence["forwards"] for one in found if one.name == "tensor 0"}
    assert [passes[method] for method in METHODS] == [2, 0, 4, 1]


@pytest.mark.parametrize("method", METHODS)
def test_a_model_whose_answer_ignores_its_input_is_refused(method: str) -> None:
    """No uniform map instead: the error names the way out."""

    class Deaf(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.answer = torch.nn.Conv2d(3, 4, 8, stride=8), torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.cells(x)
            return self.answer(torch.ones(len(x), 4))

    with pytest.raises(CvxError) as caught:
        explain(VisionModel(Deaf()), models.inputs(1), method, ClassScore(0))
    assert caught.value.hint
