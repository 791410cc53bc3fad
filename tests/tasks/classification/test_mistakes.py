"""An error of a classifier, and what another answer makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from cvx_core import ClassificationPrediction, TargetError
from cvx_core.tasks.classification.mistakes import Misclassified, classification_mistakes

CLASSES = ("cat", "dog", "owl")


def scores(*logits: float) -> ClassificationPrediction:
    return ClassificationPrediction(np.array(logits), CLASSES)


def test_a_right_answer_has_no_error() -> None:
    assert classification_mistakes(scores(3, 1, 0), "cat") == []


def test_the_margin_and_the_loss_are_those_of_the_two_classes() -> None:
    # p = (1, 2, 1) / 4, so that the loss of cat is ln 4 nats and the margin ln 2.
    [case] = classification_mistakes(scores(0, np.log(2), 0), "cat")
    assert case.type == "misclassified"
    assert case.region is None
    assert (case.predicted.name, case.true.name) == ("dog", "cat")  # type: ignore[union-attr]
    assert case.margin == pytest.approx(np.log(2), abs=1e-15)
    assert case.loss == pytest.approx(np.log(4), abs=1e-15)


def test_its_seed_is_the_gradient_of_the_margin() -> None:
    answer = scores(0, 2, 1)
    [case] = classification_mistakes(answer, "cat")
    assert answer.resolve(case.target)[0].tolist() == [-1, 1, 0]
    assert answer.value(answer.resolve(case.target)[0]) == case.margin == 2


def test_another_answer_is_judged_by_the_same_two_classes() -> None:
    [case] = classification_mistakes(scores(0, 2, 1), "cat")
    judged = case.judge(scores(1, 0.5, 0))
    assert (judged.margin, judged.right) == (-0.5, True)


def test_a_third_class_that_comes_first_leaves_it_wrong_whatever_the_margin() -> None:
    [case] = classification_mistakes(scores(0, 2, 1), "cat")
    judged = case.judge(scores(1, 0.5, 4))
    assert (judged.margin, judged.right) == (-0.5, False)


def test_two_classes_can_be_compared_where_the_answer_is_right() -> None:
    case = Misclassified.between(scores(5, 2, 1), "dog", "cat")
    assert case.margin == -3
    with pytest.raises(TargetError, match="two classes"):
        Misclassified.between(scores(5, 2, 1), "cat", "cat")


def test_the_loss_of_huge_logits_is_finite() -> None:
    [case] = classification_mistakes(scores(0, 1e4, 0), "cat")
    assert case.loss == pytest.approx(1e4)
