"""The line below a figure: who answered, and how the map's sum and the score are related."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cvx_figure.captions import make_caption
from sample_predictions import sample_of_a_detector

import cvx_core as cvx
from cvx_core import ClassScore, Explanation
from cvx_core.explanations.heatmap import show
from cvx_core.tasks.classification.prediction import ClassificationPrediction
from cvx_core.testing import models
from cvx_core.testing.samples import sample_explanation


def caption(explanation: Explanation) -> str:
    text = make_caption(explanation, show(explanation, (300, 300))).caption
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


def summing_to(total: float, evidence: dict[str, Any], **provenance: object) -> Explanation:
    values = np.array([[total + 1, -1]], np.float32)
    # The sample's margin is 2: the logits are 3, 1 and -1, the label the second.
    return sample_explanation(evidence=evidence, provenance=provenance).replace(values=values)


def test_the_model_is_named_first_and_with_it_that_it_has_learned_nothing() -> None:
    assert caption(summing_to(2, {}, model="timm:resnet18")).startswith(
        "timm:resnet18 · sample.jpg"
    )
    untrained = summing_to(2, {}, model="timm:resnet18", model_details={"weights": "random"})
    assert caption(untrained).startswith("timm:resnet18, random weights · ")
    trained = summing_to(2, {}, model="timm:resnet18", model_details={"weights": "a1_in1k"})
    assert "random" not in caption(trained)


@pytest.mark.parametrize(
    ("total", "evidence", "said"),
    [
        # 3.4374 - 0.1966 = 3.2407
        (
            3.4373,
            {"total": 3.2407, "constant_part": -0.1966, "non_pixel_share": 0.0541},
            "constants -0.20 logits: 3.44 - 0.20 = 3.24",
        ),
        (
            2.0,
            {"total": 3.0, "constant_part": 0.25, "other_tokens": 0.75},
            "constants 0.25 logits, other tokens 0.75 logits: 2.00 + 0.25 + 0.75 = 3.00",
        ),
        (
            0.00125,
            {"total": 0.001, "constant_part": -0.00025},
            "constants -0.00025 logits: 0.00125 - 0.00025 = 0.001",
        ),
        (2.0, {"total": 3.0, "constant_part": 0.5}, ": 2.00 + 0.50 \N{NOT EQUAL TO} 3.00"),
        (2.0, {"non_pixel_share": 0.25}, "25 % of the relevance has no spatial position"),
    ],
)
def test_the_parts_of_a_conserved_score_are_a_sum_to_check(
    total: float, evidence: dict[str, Any], said: str
) -> None:
    found = caption(summing_to(total, evidence))
    assert said in found
    assert ("has no spatial position" in found) == ("no spatial position" in said)


def test_what_a_module_loses_is_said_with_its_name() -> None:
    lost = [{"module": "blocks.4.act", "missing": -0.431}, {"module": "head", "missing": 0.1}]
    found = caption(summing_to(2, {"residual": 0.1, "unconserved": lost}))
    assert "residual 0.1 · -0.431 logits lost in blocks.4.act · 0.1 logits lost in head" in found
    assert "lost" not in caption(summing_to(2, {"residual": 1e-7}))


def test_signal_that_is_held_is_said_with_the_function_and_the_module() -> None:
    one = {"module": "blocks.4.act", "function": "softplus", "carries": 1.25}
    said = "1.25 logits of the constant part is relevance absorbed by softplus in blocks.4.act"
    assert said in caption(summing_to(2, {"residual": 1e-7, "held": [one]}))


def test_that_rounding_hides_a_loss_is_said() -> None:
    reason = "in bfloat16 a loss can't be told from rounding"
    evidence = {"residual": 0.01, "unconserved": None, "unconserved_reason": reason}
    assert f"residual 0.01 · {reason}" in caption(summing_to(2, evidence))


def test_an_intervention_says_how_far_the_estimate_agrees() -> None:
    assert "correlation with the first-order estimate -0.25" in caption(
        summing_to(2, {"pearson_r": -0.25, "pearson_r_native": 0.5})
    )
    assert "correlation" not in caption(summing_to(2, {"pearson_r": None}))


def test_a_first_order_map_that_misses_the_score_says_that_it_need_not_sum_to_it() -> None:
    said = "first-order estimate; its sum may differ from the score, 2 logits"
    assert said in caption(summing_to(2.2, {}, order="first"))
    assert said in caption(summing_to(-0.4, {}, order="first"))
    assert "first order" not in caption(summing_to(2.05, {}, order="first")), "within 5 %"
    assert "first order" not in caption(summing_to(-0.4, {})), "other methods promise no sum"


def test_a_map_that_is_the_same_for_every_class_was_asked_about_none() -> None:
    logits = ClassificationPrediction(
        np.array([3.0, 1.0, -1.0]), ("power drill", "screwdriver", "hammer")
    )
    target = ClassScore("hammer").resolve(logits)[1]
    for specific in (True, False):
        one = sample_explanation(evidence={"class_specific": specific}).replace(target=target)
        prediction = make_caption(one, show(one, (300, 300))).prediction
        assert ("target" in prediction) == specific


def test_what_speaks_against_the_map_comes_before_everything_else() -> None:
    failed = {"verdict": "fails", "reason": "The map hardly depends on the network."}
    result = caption(sample_explanation(evidence={"warning": "Edges only.", "sanity": failed}))
    assert result.startswith(
        "⚠ Edges only · ⚠ Sanity check: fails. The map hardly depends on the network · "
    )
    passed = {"verdict": "passes", "reason": "It changes."}
    assert caption(sample_explanation(evidence={"sanity": passed})).startswith("Sanity check: pass")


def test_the_answer_of_a_detector_names_its_boxes_and_what_is_asked_about_beside_them() -> None:
    one = sample_of_a_detector()
    shown = show(one, (300, 300))
    assert make_caption(one, shown).prediction == "prediction: cat 90.0 %, dog 70.0 %"
    assert "the yellow box is the target" in caption(one)
    unreported = one.replace(target=replace(one.target, reported=one.target.reported[:1]))
    assert (
        plain(make_caption(unreported, shown).prediction)
        == "prediction: cat 90.0 % · target: dog 70.0 %"
    )
    none = one.replace(target=replace(one.target, reported=()))
    assert plain(make_caption(none, shown).prediction) == "prediction: no box · target: dog 70.0 %"
    many = one.replace(target=replace(one.target, reported=one.target.reported * 4))
    assert plain(make_caption(many, shown).prediction).endswith("dog 70.0 % · 2 more boxes")


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_second_class_of_a_contrast_is_what_the_first_is_compared_with() -> None:
    model, batch = models.convolutional(), models.inputs(1)
    order = np.argsort(-model.predict(batch)[0].logits)
    predicted, other = (int(k) for k in order[:2])
    for pair, word in (((predicted, other), "against"), ((other, predicted), "target")):
        [one] = cvx.explain(model, batch, "grad-cam", cvx.Contrast(*pair))
        assert f" · {word}: " in plain(make_caption(one, show(one)).prediction)


def test_a_sum_that_means_nothing_is_left_out() -> None:
    assert "sum 2 logits" in caption(summing_to(2, {}))
    assert "sum" not in caption(summing_to(2, {"additive": False}))
