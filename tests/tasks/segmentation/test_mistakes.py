"""A segmenter's errors share out its wrong pixels, and each is asked and judged by its margin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from sample_predictions import pixels
from scipy import ndimage

from cvx_core.errors import OptionError, TargetError
from cvx_core.images.components import components
from cvx_core.images.regions import Frame
from cvx_core.tasks.catalogue import find_mistakes
from cvx_core.tasks.ground_truth import GroundTruthMask
from cvx_core.tasks.segmentation.mistakes import PixelMistake, segmentation_mistakes

maps = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 2))
)
pairs = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: st.tuples(
        arrays(np.int64, shape, elements=st.integers(0, 2)),
        arrays(np.int64, shape, elements=st.sampled_from([0, 1, 2, 255])),
    )
)


@given(maps)
def test_components_are_scipys_of_each_label(labels: np.ndarray) -> None:
    found = components(labels - 1)
    assert ((found < 0) == (labels == 0)).all()
    total = 0
    for label in (1, 2):
        expected, count = ndimage.label(labels == label, structure=np.ones((3, 3)))
        total += count
        both = {*zip(found[labels == label], expected[labels == label], strict=True)}
        assert len(both) == len({a for a, _ in both}) == len({b for _, b in both}) == count
    assert sorted({*found[found >= 0].tolist()}) == [*range(total)]


def test_a_long_spiral_is_one_component() -> None:
    walls = np.zeros((41, 41), dtype=np.int64)
    for k in range(1, 20, 2):
        walls[k : 41 - k, k], walls[k, k : 41 - k] = 1, 1
        walls[40 - k, k : 41 - k], walls[k : 41 - k, 40 - k] = 1, 1
        walls[k + 1, k] = 0
    assert (components(-walls)[walls == 0] == 0).all()


@given(pairs)
def test_regions_share_out_the_wrong_pixels_exactly(both: tuple[np.ndarray, np.ndarray]) -> None:
    said, true = both
    # A crop that begins between pixels of the photograph, and ends there.
    answer = pixels(said, extent=(3.3, 1.7, 20.9, 14.2))
    height, width = said.shape
    # The truth lies under the crop: stretched over a photograph, padded with unknown.
    truth = GroundTruthMask(true)
    cases = segmentation_mistakes(under(answer, truth), truth)
    wrong = (true != 255) & (true != said)
    frame = Frame((0.0, 0.0, float(width), float(height)), (width, height))
    total = np.zeros((height, width), dtype=int)
    for case in cases:
        assert isinstance(case, PixelMistake)
        inside = case.region.on_grid(frame, (height, width))
        assert inside.sum() == case.pixels
        assert {*said[inside]} == {case.predicted.index}
        assert {*true[inside]} == {case.true.index}
        assert ndimage.label(inside, structure=np.ones((3, 3)))[1] == 1
        total += inside
    assert (total == wrong).all()


def under(answer, truth):
    """Return the answer with its input over the whole of the truth."""
    height, width = truth.indices.shape
    return pixels(answer.predicted, extent=(0, 0, width, height))


@given(pairs)
def test_regions_of_a_crop_hold_the_same_pixels(both: tuple[np.ndarray, np.ndarray]) -> None:
    said, _ = both
    answer = pixels(said, extent=(3.3, 1.7, 20.9, 14.2))
    cases = segmentation_mistakes(answer, GroundTruthMask(np.zeros((30, 30), np.int64)))
    total = sum(case.region.on_grid(answer.frame, answer.shape).astype(int) for case in cases)
    assert (total == (said != 0)).all()


def kinds(said: list[str], true: list[str], **options: int) -> list[tuple[str, str, str, int]]:
    """Return type, predicted, true and pixels; a dot is nothing, ? is unknown."""
    letters = {".": 0, "c": 1, "d": 2, "?": 255}
    a, b = (np.array([[letters[x] for x in row] for row in rows]) for rows in (said, true))
    cases = segmentation_mistakes(pixels(a), GroundTruthMask(b, (8, 8)), **options)
    return sorted((c.type, c.predicted.name, c.true.name, c.pixels) for c in cases)


def test_background_tells_what_was_overlooked_from_what_was_invented() -> None:
    said = ["....cc..", "....cc..", "........", "dd......", "dd......"]
    true = ["........", "........", ".......c", "cc......", "cc.....?"]
    assert kinds(said, true) == [
        ("confusion", "dog", "cat", 4),
        ("false negative", "nothing", "cat", 1),
        ("false positive", "cat", "nothing", 4),
    ]
    assert kinds(said, true, background=None) == [
        ("confusion", "cat", "nothing", 4),
        ("confusion", "dog", "cat", 4),
        ("confusion", "nothing", "cat", 1),
    ]


def test_a_first_class_that_is_a_thing_is_no_background() -> None:
    answer = replace(pixels(np.array([[1, 1, 2]])), classes=("road", "car", "sky"))
    truth = GroundTruthMask(np.array([[0, 1, 1]]), (8, 8))
    assert {case.type for case in segmentation_mistakes(answer, truth, band=0)} == {"confusion"}
    named = replace(answer, classes=("car", "road", "Background"))
    [first, _] = sorted(segmentation_mistakes(named, truth, band=0), key=lambda case: case.type)
    assert (first.type, first.predicted.name) == ("confusion", "road")
    assert {case.type for case in segmentation_mistakes(named, truth, band=0)} == {
        "confusion",
        "false negative",
    }


def test_a_border_out_of_place_by_the_band_is_a_boundary_error_and_by_more_is_not() -> None:
    true = ["cccc...."] * 8
    said = ["cccccc.."] * 8
    assert kinds(said, true, band=2) == [("boundary", "cat", "nothing", 16)]
    assert kinds(said, true, band=1) == [("false positive", "cat", "nothing", 16)]
    assert kinds(said, true, band=0) == [("false positive", "cat", "nothing", 16)]


def test_a_region_as_high_as_the_image_is_thin_only_if_the_image_is() -> None:
    true, said = ["cccc...."] * 2, ["cccccc.."] * 2
    assert kinds(said, true, band=1) == [("false positive", "cat", "nothing", 4)]
    assert kinds(said, true, band=2) == [("boundary", "cat", "nothing", 4)]


def test_a_thin_object_that_was_missed_has_no_border_out_of_place() -> None:
    true = ["...c...."] * 8
    assert kinds(["........"] * 8, true) == [("false negative", "nothing", "cat", 8)]


def test_a_rim_is_told_from_the_blob_that_it_runs_into() -> None:
    true = ["cc......"] * 8
    said = ["ccccccc.", "ccccccc.", "ccccccc.", "ccccccc.", "ccc.....", "ccc.....", "ccc....."]
    said += ["ccc....."]
    assert kinds(said, true, band=1) == [
        ("boundary", "cat", "nothing", 4),
        ("false positive", "cat", "nothing", 20),
    ]


def test_margin_and_loss_are_means_over_the_region_and_the_seed_is_the_margins_gradient() -> None:
    answer = pixels([[1, 1, 0, 0]], classes=2, extent=(0, 0, 4, 1), by=1.5)
    answer.logits[1, 0, 1] = 2.5
    [case] = segmentation_mistakes(answer, GroundTruthMask(np.zeros((1, 4), np.int64)))
    assert case.margin == pytest.approx(2.0)  # of 1.5 and 2.5
    # -log p of the true class, log(1 + e^margin)
    assert case.loss == pytest.approx(np.log1p(np.exp([1.5, 2.5])).mean())
    seed, record = answer.resolve(case.target)
    assert seed.tolist() == [-0.5, -0.5, 0, 0, 0.5, 0.5, 0, 0]
    assert record.score == pytest.approx(case.margin)
    assert record.text == "why cat and not nothing in the false positive of 2 pixels?"
    assert record.box == (0, 0, 2, 1)


def test_what_costs_most_in_all_comes_first() -> None:
    answer = pixels([[1, 0, 1, 1, 1]], classes=2, extent=(0, 0, 5, 1), by=1.0)
    answer.logits[1, 0, 0] = 2.0
    cases = segmentation_mistakes(answer, GroundTruthMask(np.zeros((1, 5), np.int64)), band=0)
    assert [case.pixels for case in cases] == [3, 1], "1.31 nats three times are more than 2.13"


def test_half_of_the_pixels_make_a_region_right() -> None:
    answer = pixels([[1, 1, 1, 1]], classes=3, extent=(0, 0, 4, 1))
    [case] = find_mistakes(answer, GroundTruthMask(np.zeros((1, 4), np.int64)))
    assert case.text == "false positive: cat and not nothing"
    now = case.judge(pixels([[0, 0, 1, 1]], classes=3, extent=(0, 0, 4, 1)))
    assert (now.margin, now.right) == (0.0, True)
    assert now.note == "50 % of its pixels became nothing."
    now = case.judge(pixels([[0, 2, 2, 1]], classes=3, extent=(0, 0, 4, 1)))
    assert not now.right, "another wrong class is no mending"


def test_mistakes_are_refused() -> None:
    answer = pixels([[1, 1]])
    with pytest.raises(TargetError, match="class for each pixel"):
        find_mistakes(answer, "cat")
    with pytest.raises(OptionError, match="band must be 0 or more output pixels, got -1"):
        segmentation_mistakes(answer, GroundTruthMask(np.zeros((1, 2), np.int64)), band=-1)
    assert find_mistakes(answer, GroundTruthMask(np.ones((1, 2), np.int64), (8, 8))) == []


def test_errors_hold_no_more_pixels_than_the_rectangle_around_them() -> None:
    """Noise has as many errors as pixels; a picture for each would take gigabytes."""
    said = np.arange(24 * 24).reshape(24, 24) % 2 + 1
    errors = segmentation_mistakes(pixels(said), GroundTruthMask(np.zeros((24, 24), dtype=int)))
    held = sum(
        (case.region.mask if case.region.mask.base is None else case.region.mask.base).size
        for case in errors
    )
    assert len(errors) == 24
    assert held == 24 * 24
