"""Regions rasterised by hand: which cells of a grid over the network's input are inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvx_core import Box, Frame, InputError, MaskRegion, Polygon, TargetError, read_mask
from cvx_core.images import image_files as images
from cvx_core.images.regions import Point, parse_region

WHOLE = Frame((0, 0, 8, 8), (8, 8), (8, 8))
"""A photograph of 8 x 8 pixels, all of it seen."""


def drawn(inside: np.ndarray) -> list[str]:
    return ["".join(".#"[int(cell)] for cell in row) for row in inside]


def test_cells_whose_centre_lies_in_a_box_are_inside() -> None:
    # Cells of 2 x 2 pixels have centres at 1, 3, 5, 7; a right or lower edge is outside.
    assert drawn(Box(1, 3, 5, 6).on_grid(WHOLE, (4, 4))) == ["....", "##..", "##..", "...."]


def test_a_polygon_takes_the_centres_by_the_even_odd_rule() -> None:
    triangle = Polygon(((0, 0), (8, 0), (0, 8)))
    # Centres on the hypotenuse, such as (7, 1), are on a right edge and so outside.
    assert drawn(triangle.on_grid(WHOLE, (4, 4))) == ["###.", "##..", "#...", "...."]
    star = Polygon(((0, 0), (8, 0), (8, 8), (0, 8), (0, 0), (2, 2), (6, 2), (6, 6), (2, 6), (2, 2)))
    assert drawn(star.on_grid(WHOLE, (4, 4))) == ["####", "#..#", "#..#", "####"]


def test_a_polygon_may_turn_either_way() -> None:
    corners = ((1.0, 1.0), (7.0, 2.0), (5.0, 7.0), (2.0, 6.0))
    one, other = (Polygon(c).on_grid(WHOLE, (8, 8)) for c in (corners, corners[::-1]))
    assert one.any()
    assert (one == other).all()


def test_a_box_is_the_polygon_of_its_corners() -> None:
    box = Box(1.2, 0.7, 6.1, 5.9)
    corners = Polygon(((1.2, 0.7), (6.1, 0.7), (6.1, 5.9), (1.2, 5.9)))
    assert (box.on_grid(WHOLE, (8, 8)) == corners.on_grid(WHOLE, (8, 8))).all()
    assert box.bounds == corners.bounds


def test_what_the_network_does_not_see_moves_the_grid() -> None:
    # It sees the right half: its 2 x 2 cells are 2 x 4 pixels.
    half = Frame((4, 0, 8, 8), (4, 8), (8, 8))
    assert drawn(Box(0, 0, 6, 8).on_grid(half, (2, 2))) == ["#.", "#."]
    with pytest.raises(TargetError, match=r"does not see box 0,0,3,8(.|\n)*rectangle 4, 0, 8, 8"):
        Box(0, 0, 3, 8).on_grid(half, (2, 2))


def test_a_region_smaller_than_a_cell_takes_the_cell_that_holds_its_middle() -> None:
    assert drawn(Box(4.1, 0.1, 4.3, 0.2).on_grid(WHOLE, (2, 2))) == [".#", ".."]
    assert drawn(Point(3.9, 7.9).on_grid(WHOLE, (2, 2))) == ["..", "#."]


def test_a_mask_is_stretched_over_the_photograph() -> None:
    mask = np.zeros((2, 4), dtype=bool)
    mask[1, 3] = True
    # Of a 4 x 2 mask over 8 x 8 pixels that corner is 2 x 4 pixels.
    assert drawn(MaskRegion(mask).on_grid(WHOLE, (4, 4))) == ["....", "....", "...#", "...#"]
    assert MaskRegion(mask, (8, 8)).bounds == (6, 4, 8, 8)


def test_regions_that_are_none_are_refused() -> None:
    for sides in ((3, 0, 3, 5), (0, 5, 5, 1), (0, 0, float("nan"), 1), (0, 0, 1e200, 1e200)):
        with pytest.raises(TargetError, match="Invalid box"):
            Box(*sides)
    with pytest.raises(TargetError, match="three or more"):
        Polygon(((0, 0), (1, 1)))
    with pytest.raises(TargetError, match=r"4x4\) marks no pixel"):
        MaskRegion(np.zeros((4, 4), dtype=bool))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2,3.5,4", Box(1, 2, 3.5, 4)),
        ("1, 2, 3, 4", Box(1, 2, 3, 4)),
        ("-1,0,3,4", Box(-1, 0, 3, 4)),
        ("0,0 4,0 4,4", Polygon(((0, 0), (4, 0), (4, 4)))),
    ],
)
def test_boxes_and_polygons_are_read_as_numbers(text: str, expected: Box | Polygon) -> None:
    assert parse_region(text) == expected


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "P", "RGBA", "LA"])
def test_a_mask_is_what_is_not_black_or_transparent(mode: str, tmp_path: Path) -> None:
    grey = Image.fromarray(np.array([[0, 255], [0, 0]], dtype=np.uint8))
    if mode in ("RGBA", "LA"):
        image = Image.new(mode.replace("A", ""), (2, 2), 0)
        image.putalpha(grey)
    elif mode == "P":
        image = Image.fromarray(np.array([[0, 3], [0, 0]], dtype=np.uint8), "P")
        image.putpalette([9, 9, 9] * 256)
    elif mode == "I;16":
        image = Image.fromarray(np.array([[0, 900], [0, 0]], dtype=np.uint16))
    else:
        image = grey.convert(mode)
    image.save(tmp_path / "mask.png")
    assert drawn(read_mask(tmp_path / "mask.png").mask) == [".#", ".."]


def test_what_is_no_mask_is_refused_with_the_other_ways(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "header.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\0IHDR")
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    for name, said in [
        ("text.png", "not a readable image"),
        ("header.png", "is damaged"),
        ("missing.png", "File not found"),
        ("pipe.png", "Not a regular file"),
        ("n" * 300 + ".png", "name too long"),
    ]:
        with pytest.raises(InputError, match=rf"{said}(.|\n)*left,top,right,bottom"):
            parse_region(str(tmp_path / name))


def test_a_mask_larger_than_what_may_be_decoded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 10)
    Image.new("1", (4, 3), 1).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="4 x 3 pixels"):
        read_mask(tmp_path / "mask.png")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mask.jpg", {}),
        ("mask.webp", {"lossless": True}),  # the file doesn't say that it is
        ("mask.png", {"format": "JPEG"}),  # the ending lies
        ("mask.tif", {"compression": "jpeg"}),
    ],
)
def test_a_format_that_may_change_pixels_gives_no_mask(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    # As JPEG, black next to a white square is not quite black, and would be inside.
    Image.fromarray(np.pad(np.full((9, 9), 255, np.uint8), 3)).save(tmp_path / name, **options)
    with pytest.raises(InputError, match=r"may change pixels(.|\n)*as PNG"):
        read_mask(tmp_path / name)


def test_boxes_of_the_input_are_brought_to_the_photograph() -> None:
    frame = Frame((10, 20, 110, 70), (50, 100))
    # An input pixel is 2 wide and half a pixel high.
    assert frame.to_image([[0, 0, 50, 100], [5, 10, 6, 12]]).tolist() == [
        [10, 20, 110, 70],
        [20, 25, 22, 26],
    ]


@pytest.mark.parametrize("far", [1e300, 1.7e308, float("9" * 400)])
def test_a_place_beyond_all_numbers_is_not_seen(far: float) -> None:
    with pytest.raises(TargetError, match="does not see pixel"):
        Point(far, 5).on_grid(WHOLE, (4, 4))
