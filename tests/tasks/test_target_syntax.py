"""Questions about parts of an image, as they are written on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvx_core import (
    Box,
    BoxScore,
    ClassScore,
    Contrast,
    InputError,
    MaskRegion,
    Missed,
    PixelScore,
    Polygon,
    RegionScore,
    Target,
    TargetError,
    parse_target,
)

PLACE = Box(120, 40, 260, 300)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("box 2", BoxScore(2)),
        ("box 2 dog", BoxScore(2, "dog")),
        ("box 2 tiger cat", BoxScore(2, "tiger cat")),
        ("box 2 dog vs tiger cat", BoxScore(2, "dog", "tiger cat")),
        ("box 2 left", BoxScore(2, side="left")),
        ("box 120,40,260,300", BoxScore(PLACE)),
        ("box 120, 40, 260, 300 dog", BoxScore(PLACE, "dog")),
        ("missed 120,40,260,300 dog", Missed(PLACE, "dog")),
        ("missed 120,40,260,300 tiger cat", Missed(PLACE, "tiger cat")),
        ("pixel 120,40", PixelScore(120, 40)),
        ("pixel 120.5,40 person", PixelScore(120.5, 40, "person")),
        ("region 120,40,260,300", RegionScore(PLACE)),
        ("region 120,40,260,300 person", RegionScore(PLACE, "person")),
        ("region 120,40,260,300 cat vs dog", RegionScore(PLACE, "cat", "dog")),
        ("region 0,0 9,0 9,9 cat", RegionScore(Polygon(((0, 0), (9, 0), (9, 9))), "cat")),
    ],
)
def test_a_part_is_read(text: str, expected: Target) -> None:
    assert parse_target(text) == expected


@pytest.mark.parametrize(
    "name", ["box turtle", "boxer", "box", "pixel art", "missed", "region", "2", "music box"]
)
def test_a_class_that_begins_like_a_part_remains_a_class(name: str) -> None:
    assert parse_target(name) == ClassScore(name)


def test_a_contrast_of_such_classes_remains_a_contrast() -> None:
    assert parse_target("box turtle vs mud turtle") == Contrast("box turtle", "mud turtle")


def test_a_class_called_like_a_part_can_be_asked_for() -> None:
    assert parse_target("class:box 2") == ClassScore("box 2")


@pytest.mark.parametrize("folder", ["plain", "with spaces in it"])
def test_a_mask_is_read_from_a_path_that_may_hold_spaces(folder: str, tmp_path: Path) -> None:
    path = tmp_path / folder / "mask.png"
    path.parent.mkdir()
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).save(path)
    for text, name in ((f"region {path}", None), (f"region {path} tiger cat", "tiger cat")):
        target = parse_target(text)
        assert isinstance(target, RegionScore)
        assert isinstance(target.region, MaskRegion)
        assert target.region.mask.tolist() == [[False, True]]
        assert target.reference == name


def test_a_mask_that_is_not_there_is_an_error_and_no_class() -> None:
    with pytest.raises(InputError, match=r"no mask 'nowhere.png'\.(.|\n)*corners"):
        parse_target("region nowhere.png person")


def test_what_is_missed_needs_a_class() -> None:
    with pytest.raises(TargetError, match=r"names no class(.|\n)*missed LEFT,TOP"):
        parse_target("missed 120,40,260,300")


@pytest.mark.parametrize(
    "text", ["box 1,2,3 dog", "missed 1,2,3 dog", "pixel 1,b", "region 1,2,3 dog"]
)
def test_coordinates_that_are_incomplete_show_the_form(text: str) -> None:
    with pytest.raises(TargetError, match=rf"can't be read(.|\n)*Write: {text.split()[0]} "):
        parse_target(text)


@pytest.mark.parametrize("text", ["box 3,3,3,9", "region 5,5,1,1 cat", "missed 9,9,0,0 dog"])
def test_an_empty_box_is_refused(text: str) -> None:
    with pytest.raises(TargetError, match="Invalid box"):
        parse_target(text)


@pytest.mark.parametrize(
    "text",
    [
        "box 2",
        "box 2 dog vs tiger cat",
        "box 2 left",
        "box 120,40,260,300 dog",
        "missed 120,40,260,300 dog",
        "pixel 120.5,40 person",
        "region 120,40,260,300 cat vs dog",
    ],
)
def test_a_part_says_what_was_asked_in_the_words_of_the_command_line(text: str) -> None:
    assert parse_target(text).asked == text


def test_a_region_whose_name_no_file_can_have_is_no_mask() -> None:
    with pytest.raises(InputError, match="There is no mask"):
        parse_target("region " + "n" * 300 + ".png cat")


def test_a_rank_of_thousands_of_digits_is_no_box() -> None:
    with pytest.raises(TargetError, match="can't be read"):
        parse_target("box " + "9" * 5000)
