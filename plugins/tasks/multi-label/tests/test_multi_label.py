"""Multi-label models: a sigmoid per class, sets of labels, one mistake per label."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cvx_multi_label.task import LabelError, MultiLabel, split_labels
from torch import nn

import cvx_core as cvx
from cvx_core.testing.conformance import TaskConformance

CLASSES = ["cat", "sofa", "dog", "car"]


def network(bias: tuple[float, ...] = (4.0, 4.0, -3.0, -3.0)) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, len(bias)),
    )
    with torch.no_grad():
        net[-1].bias.copy_(torch.tensor(bias))
    return net.eval()


class TestMultiLabel(TaskConformance):
    component = "multi-label"
    options = {"rise": {"masks": 8}, "occlusion": {"window": 8}}  # noqa: RUF012
    label = frozenset({"cat", "dog"})
    label_text = "cat, dog"

    def model(self) -> cvx.VisionModel:
        return cvx.VisionModel(network(), classes=CLASSES, task="multi-label")


X = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> cvx.VisionModel:
    return cvx.VisionModel(network(), classes=CLASSES, task="multi-label")


def test_each_class_has_its_own_probability(model: cvx.VisionModel) -> None:
    [found] = model.predict(X)
    expected = model.module(X)[0].double().sigmoid().detach().numpy()
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-6)
    assert found.probabilities[:2].min() > 0.9
    assert list(np.flatnonzero(found.has)) == [0, 1]


def test_a_correct_set_of_labels_is_no_error(model: cvx.VisionModel) -> None:
    [found] = model.predict(X)
    assert cvx.find_mistakes(found, {"cat", "sofa"}) == []
    [explained] = cvx.explain(model, X, target=cvx.Predicted(), label=["cat", "sofa"])
    assert explained.target.correct is True
    assert explained.target.truth == "cat, sofa"


def test_the_error_is_the_gradient_of_the_binary_cross_entropy(model: cvx.VisionModel) -> None:
    logits = model.module(X).detach().double().requires_grad_()
    truth = torch.tensor([[1.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="sum").backward()
    seed, _ = model.predict(X)[0].resolve(cvx.Error({"cat", "dog"}))
    np.testing.assert_allclose(seed, logits.grad[0].numpy(), atol=1e-6)


def test_a_wrong_and_a_missed_label_are_mistakes_of_their_own(model: cvx.VisionModel) -> None:
    [found] = model.predict(X)
    missed, wrong = cvx.find_mistakes(found, {"cat", "dog"})[::-1]
    assert {missed.text, wrong.text} == {"missed label: dog", "wrong label: sofa"}
    assert {missed.target, wrong.target} == {LabelError(2, missed=True), LabelError(1)}
    better = model.task.predictions(
        cvx.VisionModel(network((4, -4, 4, -3)), task="multi-label").output(X), CLASSES, []
    )[0]
    assert all(one.judge(better).right for one in (missed, wrong))


def test_the_threshold_decides_what_is_predicted() -> None:
    strict = cvx.VisionModel(network((1, 0, -1, -3)), task="multi-label:threshold=0.9")
    assert not strict.predict(X)[0].has.any()
    with pytest.raises(cvx.OptionError):
        MultiLabel(threshold=1.0)


def test_a_network_that_ends_in_a_sigmoid_is_read_at_its_logits() -> None:
    inside = cvx.VisionModel(nn.Sequential(network(), nn.Sigmoid()), task="multi-label")
    plain = cvx.VisionModel(network(), task="multi-label")
    np.testing.assert_array_equal(inside.predict(X)[0].logits, plain.predict(X)[0].logits)
    for name in ("class-attention", "activation-error", "gradient-error"):
        maps = [cvx.explain(one, X, name, label={0, 2})[0] for one in (inside, plain)]
        np.testing.assert_array_equal(*(one.values for one in maps))
        assert "sigmoid" in maps[0].provenance["output_note"]


def test_labels_are_read_from_text_with_commas_also_in_names(tmp_path) -> None:
    assert split_labels("cat, dog", CLASSES) == ("cat", "dog")
    assert split_labels("none", CLASSES) == ()
    assert split_labels("crane, bird", ["crane, bird", "dog"]) == ("crane, bird",)
    file = tmp_path / "labels.txt"
    file.write_text("cat\ndog\n")
    assert MultiLabel().read_label(str(file), "", CLASSES) == ("cat", "dog")
    with pytest.raises(cvx.TargetError):
        split_labels(1.5, CLASSES)


def test_why_takes_labels_as_text(model: cvx.VisionModel) -> None:
    assert cvx.why(model, X, "cat, dog").type == "wrong label"
