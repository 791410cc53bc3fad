"""A detector's errors have TIDE's types; each is asked by its margin's gradient, and judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sample_predictions import detections
from torchvision.ops import box_iou

from cvx_core.errors import TargetError
from cvx_core.images.regions import Box
from cvx_core.tasks.catalogue import find_mistakes
from cvx_core.tasks.detection.missed_objects import lost_object, lost_stage, without_stage
from cvx_core.tasks.detection.mistake_targets import BoxMiss, CandidateScore, iou_gradient
from cvx_core.tasks.detection.mistakes import BoxMistake
from cvx_core.tasks.detection.targets import BoxScore
from cvx_core.tasks.ground_truth import GroundTruthBox, GroundTruthBoxes
from cvx_core.tasks.segmentation.prediction import SegmentationPrediction

HERE, BESIDE = (0, 0, 10, 10), (2, 0, 12, 10)  # IoU 8 / 12
TENTH, HALF = (0, 0, 10, 1), (0, 0, 10, 5)  # IoU 0.1 and 0.5 with HERE, TIDE's thresholds
HALF_OFF = (5, 0, 15, 10)  # IoU with HERE 5 / 15
FAR = (50, 50, 60, 60)
CAT, DOG, COW = 0, 1, 2


def logit(score: float) -> float:
    return float(np.log(score / (1 - score)))


def errors(answer, *objects) -> list[BoxMistake]:
    return find_mistakes(answer, GroundTruthBoxes(tuple(GroundTruthBox(*one) for one in objects)))  # type: ignore[return-value]


def test_what_is_right_is_no_error() -> None:
    answer = detections([(HERE, {CAT: 0.8}), (FAR, {DOG: 0.7})])
    assert errors(answer, (BESIDE, "cat"), (FAR, "dog")) == []


def test_classification_asks_why_the_one_class_and_not_the_other_at_the_box() -> None:
    answer = detections([(FAR, {COW: 0.9}), (HERE, {DOG: 0.8, CAT: 0.3})])
    [case] = errors(answer, (BESIDE, "cat"), (FAR, "cow"))
    assert case.text == "classification: dog and not cat"
    assert case.margin == pytest.approx(logit(0.8) - logit(0.3))
    assert case.loss == pytest.approx(-np.log(0.2) - np.log(0.3))
    assert case.region == Box(*HERE)
    seed, record = answer.resolve(case.target)
    expected, _ = answer.resolve(BoxScore(1, "dog", "cat"))
    assert (seed == expected).all()
    assert record.text == "why dog and not cat at box 1?"


def test_a_class_said_besides_the_true_one_is_asked_for_its_score() -> None:
    answer = detections([(HERE, {DOG: 0.6, CAT: 0.7})])
    [case] = errors(answer, (HERE, "cat"))
    assert case.type == "classification"
    assert case.margin == pytest.approx(logit(0.6) - logit(0.4))


def test_localisation_asks_for_the_sides_in_pixels_of_the_photograph() -> None:
    answer = detections([(HALF_OFF, {CAT: 0.8})])
    [case] = errors(answer, (HERE, "cat"))
    assert case.text == "localisation: cat"
    assert case.loss == pytest.approx(1 - 5 / 15)
    assert case.margin == pytest.approx(0.5 - 5 / 15)
    seed, _ = answer.resolve(case.target)
    # With the left side at a the boxes share 10 (10 - a) of 150: by a, 1 - IoU rises by 1 / 15. The
    # other sides, moved out, add 10 to the union alone: 1 - IoU rises by 50 * 10 / 150^2.
    wanted = [1 / 15, -500 / 22500, 500 / 22500, 500 / 22500]
    assert seed[-4:] == pytest.approx(wanted)
    assert (seed[:-4] == 0).all()


def test_background_asks_for_the_score_above_the_threshold() -> None:
    answer = detections([(HERE, {CAT: 0.8})])
    [case] = [one for one in errors(answer, (FAR, "dog")) if one.detection]
    assert case.text == "background: cat"
    assert case.true is None
    assert case.margin == pytest.approx(logit(0.8) - logit(0.4))
    assert case.loss == pytest.approx(-np.log(0.2))
    assert answer.resolve(case.target)[0][CAT] == 1


def test_a_wrong_class_at_a_wrong_place_is_both() -> None:
    answer = detections([(HALF_OFF, {DOG: 0.8}), (HERE, {CAT: 0.6})])
    [case] = errors(answer, (HERE, "cat"))
    assert case.text == "both: dog and not cat"
    assert case.margin == pytest.approx(logit(0.8) - logit(0.4))


@pytest.mark.parametrize(
    ("boxes", "types"),
    [
        ([(TENTH, {CAT: 0.8})], ["localisation"]),
        ([(TENTH, {DOG: 0.8})], ["background", "missed"]),
        ([(HALF, {CAT: 0.8})], []),
        ([(HALF, {DOG: 0.8})], ["classification"]),
        ([(HERE, {CAT: 0.8}), (HALF, {CAT: 0.6})], ["localisation"]),
    ],
)
def test_an_overlap_of_exactly_a_threshold_is_on_the_side_that_tide_puts_it_on(
    boxes, types
) -> None:
    found = errors(detections(boxes, overlap=0.9), (HERE, "cat"))
    assert sorted(case.type for case in found) == types


def test_a_duplicate_is_asked_against_the_box_that_counts() -> None:
    answer = detections([(HERE, {CAT: 0.8}), (BESIDE, {CAT: 0.6})], overlap=0.9)
    [case] = errors(answer, (HERE, "cat"))
    assert case.text == "duplicate: cat"
    seed, record = answer.resolve(case.target)
    assert [seed[CAT], seed[3 + CAT]] == [-1, 1]
    assert record.score == pytest.approx(logit(0.6) - logit(0.8))
    assert case.margin == pytest.approx(logit(0.6) - logit(0.4)), "it goes at the threshold"


@pytest.mark.parametrize(
    ("candidates", "settings", "stage", "margin"),
    [
        ([(HALF_OFF, {})], {}, "candidate", 0.5 - 5 / 15),
        ([(HERE, {CAT: 0.3})], {}, "threshold", logit(0.4) - logit(0.3)),
        ([(HERE, {CAT: 0.7}), (FAR, {CAT: 0.9})], {"topk": 1}, "topk", logit(0.9) - logit(0.7)),
        ([(HERE, {CAT: 0.7}), (FAR, {DOG: 0.9})], {"most": 1}, "limit", logit(0.9) - logit(0.7)),
    ],
)
def test_a_missed_object_asks_what_its_stage_held_against_it(
    candidates, settings, stage, margin
) -> None:
    answer = detections(candidates, **settings)
    [case] = [one for one in errors(answer, (HERE, "cat"), (FAR, "dog", True)) if one.lost]
    assert (case.type, case.lost.stage) == ("missed", stage)
    assert case.margin == pytest.approx(margin)
    assert case.predicted is None
    assert case.region == Box(*HERE)
    assert answer.resolve(case.target)[1].note == case.lost.text
    if stage != "candidate":
        assert case.loss == pytest.approx(-np.log(candidates[0][1][CAT]))


def test_a_missed_object_may_be_called_something_else_by_a_box_that_was_suppressed() -> None:
    # The dog at HERE is suppressed by the one beside it, which overlaps the cat too little.
    beyond = (3.5, 0, 13.5, 10)
    answer = detections([(HERE, {DOG: 0.6, CAT: 0.2}), (beyond, {DOG: 0.9})], overlap=0.4)
    missed = [one for one in errors(answer, (HERE, "cat")) if one.type == "missed"]
    assert [one.lost.stage for one in missed] == ["class"]
    assert missed[0].text == "missed: dog and not cat"
    assert missed[0].margin == pytest.approx(logit(0.6) - logit(0.2))


def test_two_objects_under_one_box_are_one_found_and_one_missed() -> None:
    answer = detections([(HERE, {CAT: 0.9}), (BESIDE, {CAT: 0.8}), (FAR, {})])
    both = ((HERE, "cat"), (BESIDE, "cat"))
    [case] = errors(answer, *both)
    assert (case.type, case.lost.stage, case.lost.by) == ("missed", "suppression", 0)
    assert case.margin == pytest.approx(logit(0.9) - logit(0.8))
    assert errors(without_stage(answer, case.lost, Box(*BESIDE), CAT), *both) == []
    for how, stage in [({"most": 1}, "limit"), ({"topk": 1}, "topk")]:
        answer = detections([(HERE, {CAT: 0.9}), (BESIDE, {CAT: 0.8})], overlap=0.9, **how)
        [case] = errors(answer, *both)
        assert (case.lost.stage, case.margin > 0) == (stage, True)
    [case] = errors(detections([(HERE, {CAT: 0.9}), (BESIDE, {CAT: 0.3})]), *both)
    assert case.lost.stage == "threshold"
    [alone] = errors(detections([(HERE, {CAT: 0.9}), (FAR, {})]), *both)
    assert alone.lost.stage == "candidate"


def test_a_detector_without_candidates_has_missed_everything() -> None:
    answer = detections([])
    [case] = errors(answer, (HERE, "cat"))
    assert case.lost.text == "There is no candidate for it at all."
    assert case.margin == 0.5
    with pytest.raises(TargetError, match="No candidate"):
        answer.resolve(case.target)


def test_a_crowd_excuses_boxes_and_is_not_missed() -> None:
    answer = detections([((2, 2, 6, 6), {CAT: 0.8})])
    assert errors(answer, (HERE, "cat", True)) == []
    [case] = errors(answer, (HERE, "dog", True))
    assert case.type == "background", "of another class"


def test_errors_come_by_what_they_cost() -> None:
    answer = detections([(HERE, {CAT: 0.6}), (FAR, {DOG: 0.9}), ((20, 0, 30, 10), {COW: 0.7})])
    assert [one.predicted.name for one in errors(answer)] == ["dog", "cow", "cat"]


def test_softmax_scores_are_asked_in_log_odds_whose_gradient_counts_the_other_classes() -> None:
    answer = detections([(HERE, {})], exclusive=True, background=2, threshold=0.2, overlap=None)
    answer = replace(answer, logits=np.array([[2.0, 0.5, 1.0]]))
    [case] = errors(answer)
    p = np.exp(answer.logits[0]) / np.exp(answer.logits[0]).sum()
    assert case.margin == pytest.approx(np.log(p[0] / (1 - p[0])) - logit(0.2))
    assert case.loss == pytest.approx(-np.log(1 - p[0]))
    seed, _ = answer.resolve(case.target)
    assert seed[:3] == pytest.approx([1, -p[1] / (p[1] + p[2]), -p[2] / (p[1] + p[2])])
    assert case.text == "background: cat"


sides = st.tuples(*[st.floats(0, 9)] * 2, *[st.floats(0.5, 9)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(sides, sides)
def test_the_gradient_of_the_iou_is_autograds(box, wanted) -> None:
    sides = torch.tensor([box], dtype=torch.float64, requires_grad=True)
    near = np.abs(np.array(box) - np.array(wanted)).min() < 1e-6
    iou = box_iou(sides, torch.tensor([wanted], dtype=torch.float64))
    [expected] = torch.autograd.grad(iou.sum(), sides)
    if not near:  # where sides coincide there are two derivatives
        np.testing.assert_allclose(iou_gradient(box, wanted), expected[0], atol=1e-12)


def test_the_gradients_of_the_errors_sum_to_that_of_their_summed_margins() -> None:
    """Margins by autograd on a small detector, seeds by vector-Jacobian products."""
    torch.manual_seed(0)
    net = torch.nn.Linear(6, 4 * (3 + 4)).double()
    x = torch.randn(6, dtype=torch.float64, requires_grad=True)
    out = net(x).reshape(4, 7)
    bases = torch.tensor([HERE, HALF_OFF, FAR, BESIDE], dtype=torch.float64)
    logits, boxes = out[:, :3] * 0.3, out[:, 3:] * 0.1 + bases
    logits = logits + torch.tensor([[0, 3, 0], [3, 0, 0], [0, 0, 3], [2, -9, -9.0]])
    answer = detections([(HERE, {})] * 4, threshold=0.6, overlap=0.95)
    answer = replace(answer, logits=logits.detach().numpy(), boxes=boxes.detach().numpy())
    cases = errors(answer, (HERE, "cat"), ((100, 100, 110, 110), "dog"))
    assert {case.type for case in cases} == {
        "classification",
        "localisation",
        "background",
        "missed",
    }
    flat = torch.cat([logits.reshape(-1), boxes.reshape(-1)])
    total = torch.zeros(6, dtype=torch.float64)
    margins = torch.zeros((), dtype=torch.float64)
    for case in cases:
        seed, _ = answer.resolve(case.target)
        total += torch.autograd.grad(flat, x, torch.from_numpy(seed), retain_graph=True)[0]
        target = case.target
        if isinstance(target, BoxMiss):
            m = target.place.candidate
            margins = (
                margins - box_iou(boxes[m][None], torch.tensor([target.wanted]).double())[0, 0]
            )
        else:
            assert isinstance(target, CandidateScore)
            for place, sign in ((target.plus, 1), (target.minus, -1)):
                if place is not None:
                    margins = margins + sign * logits[place.candidate, place.index]
    [expected] = torch.autograd.grad(margins, x)
    np.testing.assert_allclose(total, expected, rtol=1e-9)


def test_an_error_is_mended_when_its_box_is_right_or_gone_and_its_object_found() -> None:
    answer = detections([(HERE, {DOG: 0.8, CAT: 0.3})])
    [case] = errors(answer, (BESIDE, "cat"))
    still = case.judge(answer)
    assert (still.margin, still.right) == (case.margin, False)
    assert still.note == "Still there: box 0: dog 80.0 %."
    gone = case.judge(detections([(HERE, {DOG: 0.2, CAT: 0.3})]))
    assert not gone.right, "the cat is not found"
    assert gone.note == "The box is gone, its object missed."
    mended = case.judge(detections([(HERE, {DOG: 0.2, CAT: 0.6})]))
    assert mended.right
    assert mended.margin == pytest.approx(logit(0.2) - logit(0.6))


def test_an_error_that_goes_over_to_the_next_candidate_is_still_there() -> None:
    truth = GroundTruthBoxes(())
    [case] = find_mistakes(detections([(HERE, {DOG: 0.8}), (BESIDE, {DOG: 0.5})]), truth)
    now = case.judge(detections([(HERE, {DOG: 0.3}), (BESIDE, {DOG: 0.5})]))
    assert not now.right
    assert now.margin == pytest.approx(logit(0.3) - logit(0.4)), "that of the same candidate"


def test_a_missed_object_is_mended_when_it_is_found() -> None:
    [case] = errors(detections([(HERE, {CAT: 0.3})]), (HERE, "cat"))
    now = case.judge(detections([(HERE, {CAT: 0.5})]))
    assert now.right
    assert now.margin == pytest.approx(logit(0.4) - logit(0.5))


def test_candidates_that_are_proposed_anew_are_found_by_their_boxes() -> None:
    [case] = find_mistakes(
        detections([(HERE, {DOG: 0.8}), (FAR, {})], levels=()), GroundTruthBoxes(())
    )
    moved = [(FAR, {}), ((0, 0, 10, 11), {DOG: 0.2})]
    assert case.judge(detections(moved, levels=())).margin == pytest.approx(logit(0.2) - logit(0.4))
    # Nothing is there any more: as much as a score of a millionth.
    gone = case.judge(detections([(FAR, {})], levels=()))
    assert gone.margin == pytest.approx(-13.8 - logit(0.4))
    assert gone.right


def test_answers_and_truths_of_other_tasks_are_refused() -> None:
    answer = detections([(HERE, {DOG: 0.8})])
    [case] = errors(answer)
    with pytest.raises(TargetError, match="does not apply to segmentation"):
        case.judge(SegmentationPrediction(np.zeros((2, 1, 1))))
    with pytest.raises(TargetError, match="must be GroundTruthBoxes, got 'dog'"):
        find_mistakes(answer, "dog")
    with pytest.raises(TargetError, match="no class 'unicorn'"):
        errors(answer, (HERE, "unicorn"))


candidates = st.lists(
    st.tuples(
        st.sampled_from([HERE, BESIDE, HALF_OFF, FAR, (1, 1, 9, 9)]),
        st.dictionaries(st.integers(0, 2), st.integers(1, 40).map(lambda k: k / 41), max_size=3),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60)
@given(
    candidates,
    st.fixed_dictionaries(
        {
            "overlap": st.sampled_from([0.3, 0.6]),
            "most": st.integers(1, 3),
            "topk": st.none() | st.integers(1, 3),
            "single": st.booleans(),
        }
    ),
)
def test_without_each_stage_that_loses_it_an_object_is_found(given_candidates, how) -> None:
    answer, box = detections(given_candidates, **how), Box(*HERE)
    for _ in range(8):
        lost = lost_stage(answer, box, CAT)
        if not lost.stage:
            break
        answer = without_stage(answer, lost, box, CAT)
    assert lost_object(answer, box, CAT).stage == ""
    with pytest.raises(TargetError, match="reports this object"):
        without_stage(answer, lost, box, CAT)


@settings(max_examples=60)
@given(
    candidates,
    st.integers(1, 3),
    st.sampled_from([0.3, 0.6, None]),
    st.none() | st.integers(1, 3),
    st.booleans(),
)
def test_margins_are_positive_while_the_answer_is_wrong(
    given_candidates, most, overlap, topk, single
) -> None:
    how = {"most": most, "overlap": overlap, "topk": topk, "single": single}
    answer = detections(given_candidates, **how)
    cases = errors(answer, (HERE, "cat"), (BESIDE, "cat"), (HALF_OFF, "dog"))
    for case in cases:
        assert case.margin >= -1e-12, case
        assert case.loss >= 0
        now = case.judge(answer)
        assert now.margin == pytest.approx(case.margin)
        assert not now.right, case
