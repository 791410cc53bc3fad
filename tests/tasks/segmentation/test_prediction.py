"""Questions to a segmenter: seeds over its output pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cvx_core import (
    Box,
    BoxScore,
    ClassScore,
    ComponentScore,
    Contrast,
    Distribution,
    Error,
    Frame,
    GroundTruthMask,
    Margin,
    MaskRegion,
    Missed,
    ModelError,
    PixelScore,
    Predicted,
    RegionScore,
    SegmentationPrediction,
    Target,
    TargetError,
    VisionModel,
    parse_target,
)

CLASSES = ("background", "cat", "dog")
LOGITS = np.array(
    [
        [[3, 0, 0], [3, 0, 0]],
        [[0, 2, 0], [0, 2, 1]],
        [[0, 0, 1], [0, 1, 0]],
    ],
    dtype=float,
)
"""Predicted: background, cat, dog; background, cat, cat."""

ANSWER = SegmentationPrediction(LOGITS, CLASSES, Frame((0, 0, 30, 20), (6, 4), (30, 20)))
"""Over a photograph of 30 x 20 pixels, ten to a cell."""


def weights(target: Target, label: object = None) -> np.ndarray:
    """The seed as (C, h, w)."""
    return ANSWER.resolve(target, label)[0].reshape(LOGITS.shape)


def test_the_foremost_class_is_the_one_of_most_pixels_background_aside() -> None:
    seed, record = ANSWER.resolve(Predicted())
    expected = np.zeros_like(LOGITS)
    expected[1] = [[0, 1, 0], [0, 1, 1]]
    assert (seed.reshape(LOGITS.shape) == expected).all()
    assert record.text == "why cat?"
    assert record.score == 2 + 2 + 1


def test_the_background_is_set_aside_even_where_it_has_most_pixels() -> None:
    classes = np.array([[0, 0, 0], [2, 0, 2], [1, 0, 0]])  # 6 of background, 1 cat, 2 dog
    logits = np.where(classes == np.arange(3)[:, None, None], 2.0, 0.0)
    seed, record = SegmentationPrediction(logits, CLASSES).resolve(Predicted())
    assert record.text == "why dog?"
    assert (seed.reshape(logits.shape)[2] == (classes == 2)).all()
    assert np.count_nonzero(seed) == 2


def test_background_everywhere_is_predicted_as_such() -> None:
    only = SegmentationPrediction(LOGITS[:, :, :1], CLASSES)
    assert only.resolve(Predicted())[1].text == "why background?"


def test_probabilities_are_the_softmax_at_each_pixel() -> None:
    np.testing.assert_allclose(ANSWER.probabilities.sum(0), 1)
    assert ANSWER.probabilities[0, 0, 0] == pytest.approx(np.exp(3) / (np.exp(3) + 2))


def test_a_class_is_asked_about_where_it_is_predicted() -> None:
    assert weights(ClassScore("dog"))[2].tolist() == [[0, 0, 1], [0, 0, 0]]
    contrast = weights(Contrast("cat", "dog"))
    assert (contrast[1] == -contrast[2]).all()
    assert (contrast[1] == (ANSWER.predicted == 1)).all()


def test_a_class_that_no_pixel_has_leads_to_a_region() -> None:
    answer = SegmentationPrediction(LOGITS[:, :, :1], CLASSES)
    with pytest.raises(TargetError, match=r"No pixel is predicted to be 'dog'(.|\n)*region LEFT"):
        answer.resolve(ClassScore("dog"))


def test_a_region_sums_a_class_over_its_pixels() -> None:
    seed, record = ANSWER.resolve(RegionScore(Box(10, 0, 30, 10), "dog"))
    assert seed.reshape(LOGITS.shape)[2].tolist() == [[0, 1, 1], [0, 0, 0]]
    assert seed.sum() == 2
    assert record.score == 1
    assert record.box == (10, 0, 30, 10)
    assert record.probability == pytest.approx(ANSWER.probabilities[2, 0, 1:].mean())


def test_without_a_class_a_region_asks_about_the_one_of_most_of_its_pixels() -> None:
    _, record = ANSWER.resolve(RegionScore(Box(10, 0, 30, 20)))
    assert record.text == "what supports cat in box 10,0,30,20?"
    _, record = ANSWER.resolve(RegionScore(Box(0, 0, 30, 10), "cat", "dog"))
    assert record.signs == (1, -1)
    assert record.text == "what supports cat rather than dog in box 0,0,30,10?"


def test_seeds_of_disjoint_regions_add_up_to_that_of_their_union() -> None:
    left = np.zeros((20, 30), dtype=bool)
    left[:, :12] = True
    parts = [weights(RegionScore(MaskRegion(m), "cat")) for m in (left, ~left)]
    union = weights(RegionScore(Box(0, 0, 30, 20), "cat"))
    assert (parts[0] + parts[1] == union).all()


def test_a_pixel_is_the_output_over_that_place() -> None:
    seed, record = ANSWER.resolve(PixelScore(25, 15))
    expected = np.zeros_like(LOGITS)
    expected[1, 1, 2] = 1
    assert (seed.reshape(LOGITS.shape) == expected).all()
    assert record.text == "why cat at pixel 25,15?"
    assert record.box == (20, 10, 30, 20)
    assert weights(PixelScore(0, 0, "dog"))[2].tolist() == [[1, 0, 0], [0, 0, 0]]
    with pytest.raises(TargetError, match="does not see pixel 30,0"):
        ANSWER.resolve(PixelScore(30, 0))


def test_the_error_signal_is_the_gradient_of_the_summed_cross_entropy() -> None:
    truth = GroundTruthMask(np.array([[0, 1, 1], [255, 1, 2]]))

    def loss(logits: np.ndarray) -> float:
        answer = SegmentationPrediction(logits)
        rows, columns = np.nonzero(truth.indices != 255)
        picked = answer.probabilities[truth.indices[rows, columns], rows, columns]
        return float(-np.log(picked).sum())

    numeric = np.zeros_like(LOGITS)
    for place in np.ndindex(*LOGITS.shape):
        step = np.zeros_like(LOGITS)
        step[place] = 1e-6
        numeric[place] = (loss(LOGITS + step) - loss(LOGITS - step)) / 2e-6
    # Central differences of 1e-6 in float64 are right to some 1e-10.
    np.testing.assert_allclose(weights(Error(), truth), numeric, atol=1e-8)


def test_the_margin_is_that_of_the_wrong_pixels() -> None:
    truth = GroundTruthMask(np.array([[0, 1, 1], [255, 1, 2]]))
    seed, record = ANSWER.resolve(Margin(), truth)
    expected = np.zeros_like(LOGITS)
    expected[2, 0, 2], expected[1, 0, 2] = 1, -1  # dog for cat
    expected[1, 1, 2], expected[2, 1, 2] = 1, -1  # cat for dog
    assert (seed.reshape(LOGITS.shape) == expected).all()
    assert record.score == (1 - 0) + (1 - 0)
    assert record.note == "2 of 5 known pixels are wrong."


def test_where_all_pixels_are_right_there_is_no_margin() -> None:
    seed, record = ANSWER.resolve(Margin(GroundTruthMask(ANSWER.predicted)))
    assert not seed.any()
    assert "there is no error" in record.text


@pytest.mark.parametrize("label", [None, "cat"])
def test_the_truth_of_a_segmenter_is_a_class_for_each_pixel(label: str | None) -> None:
    with pytest.raises(TargetError, match=r"class for each pixel(.|\n)*--label FILE.png"):
        ANSWER.resolve(Error(), label)
    with pytest.raises(TargetError, match="unknown at every pixel"):
        ANSWER.resolve(Error(), GroundTruthMask(np.full((2, 3), 255)))


def test_the_answer_as_a_whole_weighs_each_class_at_each_pixel() -> None:
    assert (weights(Distribution()) == ANSWER.probabilities).all()


@pytest.mark.parametrize("target", [BoxScore(0), Missed(Box(0, 0, 5, 5), "cat")])
def test_questions_about_boxes_are_for_detectors(target: Target) -> None:
    with pytest.raises(TargetError, match=r"does not apply to segmentation(.|\n)*class"):
        ANSWER.resolve(target)


def test_a_contrast_needs_two_classes() -> None:
    with pytest.raises(TargetError, match="both are 'cat'"):
        ANSWER.resolve(Contrast("cat", 1))


def test_a_region_of_a_class_is_not_held_against_the_same() -> None:
    for reference in ("cat", None):  # of all pixels most are cat's
        with pytest.raises(TargetError, match="both are 'cat'"):
            ANSWER.resolve(RegionScore(Box(0, 0, 30, 20), reference, "cat"))


def test_an_answer_that_is_not_finite_is_refused() -> None:
    bad = LOGITS.copy()
    bad[0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="1 of 18 logits"):
        SegmentationPrediction(bad)


def parted() -> SegmentationPrediction:
    """Return an answer with two parts of a thing, one of them 5 x 5, on 8 x 12 pixels."""
    said = np.zeros((8, 12), dtype=int)
    said[1:6, 1:6], said[2:4, 9:11] = 1, 1
    logits = np.stack([said == 0, said == 1]).astype(float) * 2.0
    return SegmentationPrediction(
        logits, ("nothing", "cat"), Frame((0.0, 0.0, 24.0, 16.0), (24, 16))
    )


def of_part(answer: SegmentationPrediction, target: ComponentScore, c: int) -> np.ndarray:
    seed, _ = answer.resolve(target)
    return seed.reshape(answer.logits.shape)[c]


def test_a_component_is_what_is_connected_with_a_place_of_the_same_answer() -> None:
    answer = parted()
    one = np.zeros((8, 12))
    one[1:6, 1:6] = 1
    assert (of_part(answer, ComponentScore(6, 6), 1) == one).all()
    other = of_part(answer, ComponentScore(20, 6), 1)
    assert other.sum() == 4
    # What is not given to the cat makes one part around both.
    assert of_part(answer, ComponentScore(0, 0), 0).sum() == 8 * 12 - 25 - 4


def test_a_boundary_is_its_rim_and_the_pictures_edge_is_none() -> None:
    answer = parted()
    rim = of_part(answer, ComponentScore(6, 6, band=1), 1)
    assert rim.sum() == 25 - 9
    assert not rim[2:5, 2:5].any()
    around = of_part(answer, ComponentScore(0, 0, band=1), 0)
    assert around[0, 0] == 1, "beside the cat's corner"
    assert around[7].sum() == 0, "at the picture's edge alone"


def test_component_and_boundary_are_read_and_held_against_another_class() -> None:
    answer = parted()
    assert parse_target("component 6,6") == ComponentScore(6, 6)
    assert parse_target("boundary 6,6 cat vs nothing") == ComponentScore(6, 6, "cat", "nothing", 3)
    _, record = answer.resolve(parse_target("component 20,6 cat vs nothing"))
    assert record.score == pytest.approx(4 * 2.0)
    assert record.text == (
        "what supports cat rather than nothing in the part of 4 pixels of cat at 20,6?"
    )
    assert record.box == (18.0, 4.0, 22.0, 8.0)
    for target in (ComponentScore(6, 6), ComponentScore(6, 6, "cat", band=3)):
        assert parse_target(target.asked) == target


def test_an_answer_that_is_the_same_everywhere_has_no_boundary() -> None:
    answer = SegmentationPrediction(np.stack([np.ones((4, 4)), np.zeros((4, 4))]), ("a", "b"))
    with pytest.raises(TargetError, match="no border"):
        answer.resolve(ComponentScore(0.5, 0.5, band=3))


@pytest.mark.parametrize("size", [(16, 16), (24, 16)])
def test_classes_that_come_last_are_refused(size: tuple[int, int]) -> None:
    net = nn.Conv2d(3, 5, 1).eval()

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x).permute(0, 2, 3, 1)

    image = torch.rand(1, 3, *size)
    with pytest.raises(ModelError, match=r"classes come last(.|\n)*permute\(0, 3, 1, 2\)"):
        VisionModel(Last(), task="segmentation").predict(image)
    way_out = VisionModel(Last(), task="segmentation", readout=lambda o: o.permute(0, 3, 1, 2))
    plain = VisionModel(net, task="segmentation")
    assert np.array_equal(way_out.predict(image)[0].logits, plain.predict(image)[0].logits)
