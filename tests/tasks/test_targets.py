"""Targets: each seed by its formula, on numbers worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays

import cvx_core as cvx
from cvx_core.errors import ModelError, TargetError
from cvx_core.tasks.catalogue import parse_target
from cvx_core.tasks.classes import ClassEntry, TargetRecord, find_class
from cvx_core.tasks.classification.prediction import ClassificationPrediction
from cvx_core.tasks.prediction import Resolved
from cvx_core.tasks.targets import (
    ClassScore,
    Contrast,
    Distribution,
    Error,
    Margin,
    Predicted,
    Target,
)

# Logits whose softmax is (1/2, 1/4, 1/4), (2/4, 1/4, 1/4).
HALVES = ClassificationPrediction(np.log([2.0, 1.0, 1.0]), ("cat", "dog", "owl"))
LOGITS = arrays.arrays(
    np.float64, st.integers(2, 12), elements=st.floats(-50, 50, allow_nan=False)
).map(ClassificationPrediction)


@pytest.mark.parametrize(
    ("target", "seed"),
    [
        (Predicted(), [1, 0, 0]),
        (ClassScore("owl"), [0, 0, 1]),
        (ClassScore(1), [0, 1, 0]),
        (Distribution(), [0.5, 0.25, 0.25]),
        (Contrast("dog", 2), [0, 1, -1]),
        (Error("dog"), [0.5, -0.75, 0.25]),
        (Margin("dog"), [1, -1, 0]),
        (Margin("cat"), [0, 0, 0]),
    ],
)
def test_a_seed_is_what_its_formula_says(target: Target, seed: list[float]) -> None:
    found, record = target.resolve(HALVES)
    np.testing.assert_allclose(found, seed, atol=1e-15)
    # <seed, logits> with logits (ln 2, 0, 0).
    assert record.score == pytest.approx(seed[0] * math.log(2))


def test_probabilities_do_not_overflow() -> None:
    scores = ClassificationPrediction(np.array([1000.0, 999.0, -1000.0]))
    assert scores.probabilities == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_not_finite_has_no_question(bad: float) -> None:
    with pytest.raises(ModelError, match="for class 1"):
        ClassificationPrediction(np.array([0.0, bad, 1.0]))


@given(LOGITS)
def test_the_distribution_sums_to_one(scores: ClassificationPrediction) -> None:
    seed, _ = Distribution().resolve(scores)
    assert seed.sum() == pytest.approx(1)
    assert (seed >= 0).all()


@given(LOGITS, st.data())
def test_the_error_and_the_margin_sum_to_zero(
    scores: ClassificationPrediction, data: st.DataObject
) -> None:
    label = data.draw(st.integers(0, len(scores.logits) - 1))
    for target in (Error(label), Margin(label)):
        seed, _ = target.resolve(scores)
        assert seed.sum() == pytest.approx(0, abs=1e-12)


@given(LOGITS, st.data())
def test_the_error_is_the_gradient_of_the_cross_entropy(
    scores: ClassificationPrediction, data: st.DataObject
) -> None:
    label = data.draw(st.integers(0, len(scores.logits) - 1))
    seed, record = Error(label).resolve(scores)
    step = 1e-5
    for c in range(len(seed)):
        moved = np.zeros(len(seed))
        moved[c] = step
        up, down = (
            -np.log(
                np.maximum(ClassificationPrediction(scores.logits + d).probabilities[label], 1e-300)
            )
            for d in (moved, -moved)
        )
        # Central differences of a function whose third derivative is below 1/5: the truncation
        # is below 1e-11, and the rounding of losses up to 100 is 1e-14 / 1e-5.
        assert (up - down) / (2 * step) == pytest.approx(seed[c], abs=1e-7)
    p = scores.probabilities
    entropy = -sum(v * math.log(v) for v in p if v > 0)
    loss = -math.log(max(p[label], 1e-300))
    assert record.score == pytest.approx(loss - entropy, abs=1e-9)


@given(LOGITS, st.data())
def test_a_contrast_changes_its_sign_with_its_order(
    scores: ClassificationPrediction, data: st.DataObject
) -> None:
    indices = st.integers(0, len(scores.logits) - 1)
    p, q = data.draw(st.lists(indices, min_size=2, max_size=2, unique=True))
    forth, one = Contrast(p, q).resolve(scores)
    back, other = Contrast(q, p).resolve(scores)
    np.testing.assert_array_equal(forth, -back)
    assert one.score == -other.score


@given(LOGITS, st.data())
def test_the_margin_of_a_wrong_answer_is_the_contrast_with_the_truth(
    scores: ClassificationPrediction, data: st.DataObject
) -> None:
    label = data.draw(
        st.integers(0, len(scores.logits) - 1).filter(lambda y: y != scores.predicted)
    )
    margin, record = Margin(label).resolve(scores)
    contrast, _ = Contrast(scores.predicted, label).resolve(scores)
    np.testing.assert_array_equal(margin, contrast)
    assert record.score >= 0


def test_where_the_answer_is_right_the_margin_says_so() -> None:
    seed, record = Margin().resolve(HALVES, "cat")
    assert not seed.any()
    assert "correct" in record.text
    assert "zero" in record.note
    assert record.correct is True


@pytest.mark.parametrize("target", [Error(), Margin()])
def test_a_question_about_the_error_needs_the_truth(target: Target) -> None:
    assert target.needs_label
    with pytest.raises(TargetError, match="--label"):
        target.resolve(HALVES)


def test_a_target_s_own_label_goes_before_the_one_given() -> None:
    _, record = Margin("dog").resolve(HALVES, "owl")
    assert record.label is not None
    assert record.label.name == "dog"


def test_a_contrast_of_a_class_with_itself_is_refused() -> None:
    with pytest.raises(TargetError, match="both are 'cat'"):
        Contrast("cat", 0).resolve(HALVES)


@pytest.mark.parametrize("target", [Predicted(), ClassScore("owl"), Distribution(), Margin("dog")])
def test_a_record_survives_json(target: Target) -> None:
    _, record = target.resolve(HALVES, "dog")
    assert TargetRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_record_names_the_five_best_in_order() -> None:
    _, record = Predicted().resolve(ClassificationPrediction(np.array([0.0, 3, 1, 2, 5, 4])), 2)
    assert [entry.index for entry in record.top] == [4, 5, 1, 3, 2]
    assert record.predicted.index == 4
    assert record.correct is False
    assert record.probability == record.top[0].probability


def test_a_name_is_found_exactly_then_without_case_then_as_an_index() -> None:
    names = ("Tabby", "tabby", "7", "owl")
    assert find_class("Tabby", names, 4) == 0
    assert find_class("tabby", names, 4) == 1
    assert find_class("OWL", names, 4) == 3
    assert find_class(" owl ", names, 4) == 3
    assert find_class("7", names, 4) == 2
    assert find_class("3", names, 4) == 3
    assert find_class(np.int64(3), names, 4) == 3
    assert find_class("2", None, 4) == 2


def test_a_name_that_two_classes_share_is_refused_with_their_indices() -> None:
    # ImageNet has two classes 'crane' (a bird, 134; a machine, 517) and two 'maillot' (638, 639).
    names = ["x"] * 1000
    names[134] = names[517] = "crane"
    names[638] = names[639] = "maillot"
    with pytest.raises(TargetError, match="134 or 517"):
        find_class("crane", names, 1000)
    with pytest.raises(TargetError, match="638 or 639"):
        find_class("Maillot", names, 1000)
    assert find_class(517, names, 1000) == 517


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("tabbi", "Did you mean 'tabby'"),
        ("zzz", "It has 2 classes; an index works too"),
        (2, "from 0 to 1"),
        (-1, "from 0 to 1"),
        ("2", "from 0 to 1"),
        (True, r"must be a name \(str\) or an index"),
        (1.0, r"must be a name \(str\) or an index"),
        (None, r"must be a name \(str\) or an index"),
    ],
)
def test_a_class_that_is_not_there_names_the_way_out(reference: object, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        find_class(reference, ("tabby", "owl"), 2)  # type: ignore[arg-type]


def test_a_word_of_class_names_suggests_the_classes_that_contain_it_words_first() -> None:
    names = ["catamaran", "tabby", "tiger cat", "Persian cat", "cab", "polecat"]
    with pytest.raises(TargetError) as caught:
        find_class("Cat", names, len(names))
    wanted = "Did you mean 'tiger cat' or 'Persian cat' or 'catamaran' or 'polecat'?"
    assert caught.value.hint.startswith(f"{wanted} An index works too"), "'cab' is only spelt alike"
    with pytest.raises(TargetError, match=r"or 'cat 4'\? \(2 more contain it\) An index"):
        find_class("cat", [f"cat {i}" for i in range(7)], 7)
    with pytest.raises(TargetError, match=r"or 'cat 4'\? An index"):
        find_class("cat", [f"cat {i}" for i in range(5)], 5)


def test_a_name_asked_of_a_model_without_names_says_how_to_give_them() -> None:
    with pytest.raises(TargetError, match="pass classes="):
        find_class("tabby", None, 10)


def test_names_with_digits_of_other_scripts_are_no_crash() -> None:
    with pytest.raises(TargetError):
        find_class("²", ("a", "b"), 2)
    assert find_class("\uff11", ("a", "b"), 2) == 1  # int() reads full-width digits too


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("predicted", Predicted()),
        (" Distribution ", Distribution()),
        ("error", Error()),
        ("MARGIN", Margin()),
        ("tabby", ClassScore("tabby")),
        ("281", ClassScore("281")),
        ("class:error", ClassScore("error")),
        ("tabby vs tiger cat", Contrast("tabby", "tiger cat")),
        ("tabby vs. 282", Contrast("tabby", "282")),
        ("class:a vs class:b", Contrast("a", "b")),
        ("canvas", ClassScore("canvas")),
    ],
)
def test_a_target_is_read_as_it_is_written(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", "  ", "a vs b vs c", "vs b", "a vs", " vs "])
def test_text_that_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(TargetError, match="CLASS vs CLASS"):
        parse_target(text)


@given(st.text(max_size=80))
def test_a_slug_is_fit_for_a_file_name(name: str) -> None:
    scores = ClassificationPrediction(np.array([1.0, 0.0]), (name, "other"))
    for target in (ClassScore(0), Contrast(0, 1), Predicted()):
        slug = target.resolve(scores)[1].slug
        assert 0 < len(slug) <= 60
        assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert Path(slug).name == slug


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.0, "0.0 %"), (1e-9, "<0.1 %"), (0.187, "18.7 %"), (0.99999, ">99.9 %"), (1.0, "100.0 %")],
)
def test_a_probability_is_never_rounded_to_certainty(probability: float, text: str) -> None:
    assert ClassEntry(0, "tabby", 1.0, probability).text == f"tabby {text}"


def test_a_target_of_one_s_own_resolves_like_ours() -> None:
    class Coldest(cvx.Target):
        def resolve(
            self, scores: ClassificationPrediction, label: object = None
        ) -> cvx.target.Resolved:  # type: ignore[name-defined]
            seed = scores.one_hot(int(scores.logits.argmin()))
            return seed, scores.record("coldest", "what is least likely?", seed)

    _, record = Coldest().resolve(ClassificationPrediction(np.array([2.0, -1.0, 0.0])))
    assert record.score == -1.0
    assert record.probability is None
    assert record.slug == "coldest"


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (Predicted(), "predicted"),
        (ClassScore("tabby"), "class:tabby"),
        (ClassScore(281), "class:281"),
        (Contrast("tabby", "tiger cat"), "contrast:tabby vs tiger cat"),
        (Distribution(), "distribution"),
        (Error(), "error"),
        (Error("tabby"), "error:tabby"),
        (Margin(), "margin"),
        (cvx.BoxScore(2, "dog"), "box 2 dog"),
        (cvx.PixelScore(120, 40), "pixel 120,40"),
    ],
)
def test_a_target_has_a_key_before_any_prediction_exists(target: cvx.Target, key: str) -> None:
    assert target.key == key


def test_a_key_of_a_target_of_one_s_own_names_its_parameters() -> None:
    @dataclass(frozen=True)
    class Coldest(cvx.Target):
        rank: int = 0

        def resolve(self, prediction: object, label: object = None) -> Resolved:
            raise NotImplementedError

    assert (Coldest().key, Coldest(3).key) == ("coldest:0", "coldest:3")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ClassScore("TABBY"), ClassScore(1)),
        (Contrast("tabby", "0"), Contrast(1, "cat")),
        (cvx.BoxScore(2, "Tabby", 0), cvx.BoxScore(2, 1, "cat")),
        (cvx.RegionScore(cvx.Box(0, 0, 2, 2), 1), cvx.RegionScore(cvx.Box(0, 0, 2, 2), "tabby")),
    ],
)
def test_targets_are_the_same_however_their_classes_are_written(
    first: cvx.Target, second: cvx.Target
) -> None:
    assert first.key != second.key
    keys = {one.with_indices(("cat", "tabby"), 2).key for one in (first, second)}
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (ClassScore("dog"), "no class 'dog'"),
        (Contrast("cat", 0), "both are 'cat'"),
        (cvx.Missed(cvx.Box(0, 0, 2, 2), 7), "no class 7"),
    ],
)
def test_unknown_classes_are_refused_before_any_prediction(
    target: cvx.Target, message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        target.with_indices(("cat", "tabby"), 2)
