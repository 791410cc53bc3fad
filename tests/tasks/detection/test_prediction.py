"""Questions to a detector, and what it reports of its candidates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torchvision.ops import batched_nms

from cvx_core import (
    Box,
    BoxScore,
    ClassScore,
    Contrast,
    DetectionCandidates,
    DetectionPrediction,
    Distribution,
    Error,
    Frame,
    Margin,
    Missed,
    ModelError,
    PixelScore,
    Predicted,
    RegionScore,
    TargetError,
    lost_stage,
)
from cvx_core.tasks.detection.prediction import overlaps

CLASSES = ("cat", "dog")
FRAME = Frame((10, 0, 110, 50), (50, 50), (120, 50))
"""An input of 50 x 50 pixels over 100 x 50 of the photograph, which begins at x = 10."""

SCORES = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.1]]
BOXES = [[0.0, 0, 20, 20], [0, 0, 20, 18], [0, 0, 20, 20], [30, 30, 40, 40]]


def answer(scores: Any = SCORES, boxes: Any = BOXES, **settings: Any) -> DetectionPrediction:
    candidates = DetectionCandidates(
        torch.tensor([scores]).double().logit(), torch.tensor([boxes]).double(), **settings
    )
    return DetectionPrediction.of(candidates, 0, CLASSES[: len(scores[0])], FRAME)


def kept(found: DetectionPrediction) -> list[tuple[int, int]]:
    return [(one.candidate, one.entry.index) for one in found.kept]


def test_what_is_above_the_threshold_and_not_suppressed_is_reported_best_first() -> None:
    found = answer()
    # 1 overlaps 0 by .9 and is of its class; 2 lies upon 0 but is another class.
    assert kept(found) == [(0, 0), (2, 1)]
    assert [one.text for one in found.kept] == ["box 0: cat 90.0 %", "box 1: dog 70.0 %"]
    # x is stretched twofold and shifted by 10.
    assert found.kept[0].box == (10, 0, 50, 20)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"threshold": 0.75}, [(0, 0)]),
        ({"threshold": 0.95}, []),
        ({"overlap": 0.95}, [(0, 0), (1, 0), (2, 1)]),
        ({"overlap": None}, [(0, 0), (1, 0), (2, 1)]),
        ({"most": 1}, [(0, 0)]),
        ({"threshold": 0.15}, [(0, 0), (2, 1), (3, 0)]),
        ({"threshold": 0.15, "overlap": None, "single": True}, [(0, 0), (1, 0), (2, 1), (3, 0)]),
        # Of each class the best two are compared: cat's are 0 and 1, dog's 2 and 1.
        (
            {"threshold": 0.15, "overlap": None, "topk": 2, "topk_in": "class"},
            [(0, 0), (1, 0), (2, 1), (1, 1)],
        ),
        # Of each level the best: of candidates 0 and 1, and of 2 and 3.
        ({"topk": 1, "levels": (2, 2)}, [(0, 0), (2, 1)]),
        ({"topk": 1}, [(0, 0)]),
    ],
)
def test_the_settings_are_the_detectors(
    settings: dict[str, Any], expected: list[tuple[int, int]]
) -> None:
    assert kept(answer(**settings)) == expected


def test_scores_are_sigmoids_or_a_softmax_without_the_background() -> None:
    logits = torch.tensor([[[2.0, 0.0, 1.0]]])
    candidates = DetectionCandidates(logits, torch.zeros(1, 1, 4))
    sigmoids = DetectionPrediction.of(candidates, 0, None, FRAME).scores
    np.testing.assert_allclose(sigmoids, logits[0].double().sigmoid())
    settings = replace(candidates, exclusive=True, background=1)
    found = DetectionPrediction.of(settings, 0, None, FRAME).scores
    e = np.exp
    np.testing.assert_allclose(found, [[e(2) / (e(2) + 1 + e(1)), 0, e(1) / (e(2) + 1 + e(1))]])


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.5, 0.7]), st.booleans())
def test_suppression_is_torchvisions(seed: int, overlap: float, own_boxes: bool) -> None:
    random = np.random.default_rng(seed)
    shape = (1, 20, 3) if own_boxes else (1, 20)
    corners, sizes = random.uniform(0, 20, (*shape, 2)), random.uniform(1, 20, (*shape, 2))
    boxes = torch.from_numpy(np.concatenate([corners, corners + sizes], axis=-1))
    logits = torch.from_numpy(random.normal(size=(1, 20, 3)))
    found = DetectionPrediction.of(
        DetectionCandidates(logits, boxes, overlap=overlap), 0, None, FRAME
    )
    scores = logits[0].sigmoid()
    rows, columns = torch.where(scores > 0.5)
    picked = boxes[0][rows, columns] if own_boxes else boxes[0][rows]
    left = batched_nms(picked, scores[rows, columns], columns, overlap)
    assert kept(found) == [(int(rows[k]), int(columns[k])) for k in left]


def test_overlap_is_intersection_over_union() -> None:
    a, b = np.array([[0.0, 0, 4, 4]]), np.array([[2.0, 2, 6, 6], [0, 0, 4, 4], [5, 5, 6, 6]])
    np.testing.assert_allclose(overlaps(a, b), [[4 / 28, 1, 0]])
    assert overlaps(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0]]


def test_candidates_that_are_not_there_are_never_answered() -> None:
    here = answer(valid=torch.tensor([[False, True, True, True]]))
    assert kept(here) == [(1, 0), (2, 1)]
    by_class = torch.ones(1, 4, 2, dtype=torch.bool)
    by_class[0, 0, 0] = False
    boxes = np.repeat(np.array(BOXES)[:, None], 2, axis=1).tolist()
    assert kept(answer(boxes=boxes, valid=by_class)) == [(1, 0), (2, 1)]


def test_fractions_of_the_input_become_pixels_of_the_photograph() -> None:
    found = answer(boxes=[[0.1, 0.2, 0.6, 0.4]] * 4, relative=True)
    assert found.kept[0].box == pytest.approx((20, 10, 70, 20))


def test_each_class_may_have_its_own_box() -> None:
    boxes = [[[0.0, 0, 10, 10], [20, 20, 30, 30]]] * 4
    found = answer(boxes=boxes)
    assert found.box(0, 0) == (10, 0, 30, 10)
    assert found.box(0, 1) == (50, 20, 70, 30)
    # Asked about a place, a candidate's best class says where it is: dog's box of candidate 2.
    assert found.resolve(BoxScore(Box(50, 20, 70, 30)))[1].classes[0].name == "dog"


def one_hot(found: DetectionPrediction, seed: np.ndarray) -> dict[tuple[int, int], float]:
    size = found.logits.size
    assert not seed[size:].any()
    grid = seed[:size].reshape(found.logits.shape)
    return {(int(m), int(c)): float(grid[m, c]) for m, c in zip(*np.nonzero(grid), strict=True)}


@pytest.mark.parametrize(
    ("target", "expected", "text"),
    [
        (Predicted(), {(0, 0): 1}, "why cat there?"),
        (ClassScore("dog"), {(2, 1): 1}, "what supports dog where its score is best?"),
        (Contrast("dog", "cat"), {(2, 1): 1, (2, 0): -1}, "why dog rather than cat there?"),
        (BoxScore(1), {(2, 1): 1}, "why dog at box 1?"),
        (BoxScore(1, "cat"), {(2, 0): 1}, "why cat at box 1?"),
        (BoxScore(0, None, "dog"), {(0, 0): 1, (0, 1): -1}, "why cat rather than dog at box 0?"),
        (BoxScore(Box(70, 30, 88, 40)), {(3, 0): 1}, "why cat at box 70,30,88,40?"),
        (
            Missed(Box(70, 30, 88, 40), "dog"),
            {(3, 1): 1},
            "what supports the missed dog at box 70,30,88,40?",
        ),
    ],
)
def test_a_question_is_put_to_a_candidate(
    target: Any, expected: dict[tuple[int, int], float], text: str
) -> None:
    found = answer()
    seed, record = found.resolve(target)
    assert one_hot(found, seed) == expected
    assert record.text == text
    assert record.score == pytest.approx(seed @ found.outputs)
    assert record.reported == found.kept


def test_all_that_is_reported_is_weighed_by_its_score() -> None:
    found = answer()
    seed, _ = found.resolve(Distribution())
    assert one_hot(found, seed) == pytest.approx({(0, 0): 0.9, (2, 1): 0.7})


def test_the_record_says_where_the_question_is_put() -> None:
    found = answer()
    assert found.resolve(BoxScore(1))[1].box == (10, 0, 50, 20)
    assert found.resolve(Missed(Box(70, 30, 88, 40), "dog"))[1].box == (70, 30, 88, 40)


def test_ties_of_place_go_to_the_better_score() -> None:
    # Candidates 0 and 2 lie on that place alike, 1 within .1 of it.
    found = answer()
    assert found.resolve(BoxScore(Box(10, 0, 50, 20)))[1].predicted.name == "cat"
    assert one_hot(found, found.resolve(BoxScore(Box(10, 0, 50, 20), "dog"))[0]) == {(2, 1): 1}


def test_near_ties_of_place_go_to_the_better_score() -> None:
    # They overlap that place by 1, .96 and .94; ties are near up to .05.
    boxes = [[0, 0, 50, 20], [0, 0, 48, 20], [0, 0, 47, 20]]
    found, place = answer([[0.5, 0.5], [0.6, 0.7], [0.9, 0.9]], boxes), Box(10, 0, 110, 20)
    assert one_hot(found, found.resolve(BoxScore(place))[0]) == {(1, 1): 1}
    assert one_hot(found, found.resolve(BoxScore(place, "cat"))[0]) == {(1, 0): 1}


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
def test_a_side_counts_in_pixels_of_the_photograph(side: str, relative: bool) -> None:
    scale = 50 if relative else 1
    boxes = (np.array(BOXES) / scale).tolist()
    found = answer(boxes=boxes, relative=relative)
    seed, _ = found.resolve(BoxScore(1, side=side))
    moved = (np.array(BOXES) + np.random.default_rng(0).normal(size=(4, 4))) / scale
    other = answer(boxes=moved.tolist(), relative=relative)
    k = ["left", "top", "right", "bottom"].index(side)
    change = other.box(2, 1)[k] - found.box(2, 1)[k]
    # boxes are tensors of float32 numbers here
    assert seed @ (other.outputs - found.outputs) == pytest.approx(change, abs=1e-4)


def test_questions_that_have_no_answer_tell_the_way_out() -> None:
    found = answer()
    with pytest.raises(TargetError, match=r"no box 2: .* reports 2(.|\n)*box 1: dog 70.0 %"):
        found.resolve(BoxScore(2))
    with pytest.raises(TargetError, match=r"no side 'front'(.|\n)*left, top"):
        found.resolve(BoxScore(0, side="front"))
    with pytest.raises(TargetError, match="No candidate overlaps box 200,0,210,10"):
        found.resolve(BoxScore(Box(200, 0, 210, 10)))
    with pytest.raises(TargetError, match="both are 'cat'"):
        found.resolve(Contrast("cat", "cat"))
    none = answer(threshold=0.95)
    for target in (Predicted(), BoxScore(0)):
        with pytest.raises(TargetError, match=r"reports (nothing|0)(.|\n)*missed LEFT,TOP"):
            none.resolve(target)
    for word, error_boundary in (
        ("region", RegionScore(Box(0, 0, 5, 5), "cat")),
        ("pixel", PixelScore(1, 1)),
    ):
        with pytest.raises(TargetError, match=f"'{word}' does not apply to detection"):
            found.resolve(error_boundary)
    for whole in (Error(), Margin()):
        with pytest.raises(
            TargetError, match=r"target '(error|margin)' needs the ground truth(.|\n)*--label"
        ):
            found.resolve(whole)


@pytest.mark.parametrize(
    ("settings", "box", "name", "stage", "text"),
    [
        ({}, Box(90, 0, 99, 9), "cat", "candidate", "nearest does by 0.00"),
        ({}, Box(10, 0, 50, 20), "cat", "", "It is found"),
        ({}, Box(70, 30, 90, 40), "cat", "threshold", "0.20 is not above the threshold 0.5"),
        ({"threshold": 0.85}, Box(10, 0, 50, 20), "dog", "threshold", "0.70 is not above"),
        ({"topk": 1}, Box(10, 0, 50, 20), "dog", "topk", "1 of its level have a better score"),
        ({"most": 1}, Box(10, 0, 50, 20), "dog", "limit", "1 boxes have a better score"),
    ],
)
def test_the_stage_that_lost_an_object_is_named(
    settings: dict[str, Any], box: Box, name: str, stage: str, text: str
) -> None:
    lost = lost_stage(answer(**settings), box, CLASSES.index(name))
    assert lost.stage == stage
    assert text in lost.text


def test_another_class_or_a_better_box_loses_an_object() -> None:
    two = answer([[0.9, 0.1]], [[0.0, 0, 20, 20]])
    lost = lost_stage(two, Box(10, 0, 50, 20), 1)
    assert (lost.stage, lost.candidate) == ("class", 0)
    assert lost.text == "The candidate there says cat 90.0 %; dog 10.0 %."
    # The smaller object is half of the larger, whose box suppresses its.
    boxes = [[0.0, 0, 20, 20], [0, 0, 20, 11]]
    crowded = answer([[0.9, 0.1], [0.8, 0.1]], boxes)
    lost = lost_stage(crowded, Box(10, 0, 50, 9), 0)
    assert (lost.stage, lost.candidate, lost.by) == ("suppression", 1, 0)
    assert lost.overlap == pytest.approx(9 / 11)


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({"boxes": torch.zeros(1, 3, 4)}, r"logits \(1, 4, 2\) and boxes \(1, 3, 4\)"),
        ({"levels": (1, 2)}, "4 candidates, and the levels .* have 3"),
        ({"valid": torch.ones(1, 3, dtype=torch.bool)}, r"valid \(1, 3\)"),
    ],
)
def test_candidates_that_do_not_fit_together_are_refused(
    change: dict[str, Any], result: str
) -> None:
    fitting = {"logits": torch.zeros(1, 4, 2), "boxes": torch.zeros(1, 4, 4)}
    with pytest.raises(ModelError, match=result):
        DetectionCandidates(**{**fitting, **change})


def test_a_box_s_class_is_not_held_against_the_same() -> None:
    for reference in ("dog", None):
        with pytest.raises(TargetError, match="both are 'dog'"):
            answer().resolve(BoxScore(1, reference, "dog"))


def test_an_answer_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ModelError, match="1 of 16 sides of boxes"):
        answer(boxes=[*BOXES[:3], [0, 0, float("inf"), 1]])
