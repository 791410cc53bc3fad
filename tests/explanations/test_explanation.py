"""Explanations: frozen, checked, copied faithfully, and drawn where they truly lie."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvx_core.errors import CvxError, OptionError, OutputError
from cvx_core.explanations.explanation import Explanation
from cvx_core.testing.samples import sample_explanation


def explanation(values: Any, extent: Any, size: tuple[int, int] = (4, 2)) -> Explanation:
    return sample_explanation(size=size).replace(
        values=np.asarray(values, dtype=np.float32), extent=extent
    )


def test_nothing_in_an_explanation_can_be_changed() -> None:
    one = sample_explanation()
    with pytest.raises(FrozenInstanceError):
        one.method = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        one.values[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        one.image[0, 0] = 1
    with pytest.raises(TypeError):
        one.evidence["sum"] = 1  # type: ignore[index]


def test_explanations_of_one_photograph_share_its_pixels_once_nobody_can_change_them() -> None:
    one = sample_explanation()
    assert one.replace(method="other").image is one.image
    view = np.zeros((2, 4, 3), np.uint8)[:]
    view.setflags(write=False)
    assert one.replace(image=view, extent=(0, 0, 4, 2)).image is not view


def test_what_it_was_made_of_can_change_without_changing_it() -> None:
    values = np.ones((2, 2), np.float32)
    image = np.zeros((2, 4, 3), np.uint8)
    one = sample_explanation().replace(values=values, image=image, extent=(0, 0, 4, 2))
    values[0, 0] = image[0, 0] = 9
    assert one.values[0, 0] == 1
    assert not one.image.any()


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        lambda one: pickle.loads(pickle.dumps(one)),
        lambda one: pickle.loads(pickle.dumps(one, protocol=5)),
        lambda one: Explanation.from_dict(json.loads(json.dumps(one.to_dict())), one.image),
        lambda one: one.replace(),
    ],
    ids=["copy", "deepcopy", "pickle", "pickle 5", "json", "replace"],
)
def test_a_copy_is_equal_and_as_frozen(again: Any) -> None:
    one = sample_explanation()
    other = again(one)
    assert other == one
    assert not other.values.flags.writeable
    assert not other.image.flags.writeable


def test_explanations_that_differ_anywhere_are_not_equal() -> None:
    one = sample_explanation()
    assert one != sample_explanation(seed=1)
    assert one != one.replace(name="other.jpg")
    assert one != one.replace(evidence={"sum": 0.0})
    assert one != "text"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"values": np.ones(3)}, r"\(h, w\)"),
        ({"values": np.ones((0, 3))}, r"\(h, w\)"),
        ({"values": np.array([[1.0, math.nan]])}, "1 values that are not finite"),
        ({"values": np.array([[1e39, 0.0]])}, "1 values that are not finite"),
        ({"image": np.zeros((2, 2, 4), np.uint8)}, "uint8"),
        ({"image": np.zeros((2, 2, 3))}, "uint8"),
        ({"extent": (0, 0, 0, 5)}, "extent must be"),
        ({"extent": (0, 5, 5, 0)}, "extent must be"),
        ({"extent": (0, 0, math.inf, 5)}, "extent must be"),
        ({"extent": (0, 0, math.nan, 5)}, "extent must be"),
        ({"extent": (0, 0, 5)}, "extent must be"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_what_is_no_explanation_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CvxError, match=says):
        sample_explanation().replace(**changes)


def test_a_heatmap_lies_in_its_extent_and_nowhere_else() -> None:
    # One value over the right half of an image of 4 x 2 pixels.
    one = explanation([[5.0]], (2, 0, 4, 2))
    nan = math.nan
    np.testing.assert_array_equal(one.heatmap(), [[nan, nan, 5, 5], [nan, nan, 5, 5]])


def test_a_heatmap_interpolates_between_cell_centres() -> None:
    # Cells two pixels wide: centres at x = 1 and 3, pixel centres at 0.5 ... 3.5.
    one = explanation([[0.0, 8.0]], (0, 0, 4, 2))
    np.testing.assert_allclose(one.heatmap(), [[0, 2, 6, 8], [0, 2, 6, 8]])


def test_a_heatmap_of_another_size_covers_the_same_part_of_the_image() -> None:
    one = explanation([[5.0]], (2, 0, 4, 2))
    large, small = one.heatmap((8, 4)), one.heatmap((2, 1))
    assert np.isnan(large[:, :4]).all()
    assert (large[:, 4:] == 5).all()
    np.testing.assert_array_equal(small, [[math.nan, 5]])


def test_a_map_that_reaches_beyond_a_padded_image_is_cut_at_its_edge() -> None:
    # Padded above and below: rows 0 and 3 of the map lie outside the image.
    one = explanation([[1.0], [2.0], [3.0], [4.0]], (0, -1, 4, 3))
    np.testing.assert_allclose(one.heatmap(), [[2, 2, 2, 2], [3, 3, 3, 3]])


def test_the_sign_is_never_lost() -> None:
    one = explanation([[-3.0, 3.0]], (0, 0, 4, 2))
    drawn = one.heatmap()
    np.testing.assert_allclose(drawn, -drawn[:, ::-1])


def test_a_title_says_method_and_question() -> None:
    one = sample_explanation()
    assert one.title == "sample: why power drill and not screwdriver?"
    assert "7x7" in repr(one)


def test_json_values_hold_no_pixels_and_the_map_only_when_wanted() -> None:
    one = sample_explanation(cells=(2, 3))
    data = one.to_dict()
    json.dumps(data, allow_nan=False)
    assert np.shape(data["values"]) == (2, 3) == tuple(data["shape"])
    assert data["image_size"] == [320, 240]
    assert "values" not in one.to_dict(arrays=False)
    assert "image" not in data


def test_saving_and_loading_gives_the_same(tmp_path: Path) -> None:
    one = sample_explanation()
    path = one.save(tmp_path / "map.npz")
    assert Explanation.load(path) == one
    with pytest.raises(OutputError, match="already exists"):
        one.save(path)
    one.replace(name="new").save(path, overwrite=True)
    assert Explanation.load(path).name == "new"


def test_a_notebook_shows_a_picture_and_an_escaped_description() -> None:
    import io

    hostile = sample_explanation(classes=("<script>alert(1)</script>", "b", "c"), size=(900, 300))
    with Image.open(io.BytesIO(hostile._repr_png_())) as picture:
        assert picture.size == (480, 160)
    text = hostile._repr_html_()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "data:image/png;base64," in text


def test_the_suffix_says_in_which_format_an_explanation_is_saved(tmp_path: Path) -> None:
    one = sample_explanation(size=(32, 24))
    assert one.save(tmp_path / "map").name == "map.npz"
    assert Explanation.load(tmp_path / "map.npz") == one
    starts = {".PNG": b"\x89PNG", ".pdf": b"%PDF", ".html": b"<!", ".json": b"{"}
    for suffix, start in starts.items():
        path = one.save(tmp_path / f"map{suffix}")
        assert path.read_bytes().strip().lower().startswith(start.lower()), suffix
    with pytest.raises(OutputError, match=r"No installed renderer writes \.doc") as caught:
        one.save(tmp_path / "map.doc")
    assert ".npz" in caught.value.hint
    assert ".svg" in caught.value.hint
    with pytest.raises(OutputError):
        one.save(tmp_path / "map.pdf")
    assert one.save(tmp_path / "map.pdf", overwrite=True).name == "map.pdf"


def test_a_heat_map_is_filled_where_the_map_does_not_reach() -> None:
    one = sample_explanation()
    found, filled = one.heatmap(), one.heatmap(fill=0)
    assert np.isnan(found).any()
    np.testing.assert_array_equal(filled, np.where(np.isnan(found), 0, found))
    assert one.heatmap((32, 24), fill=-9).min() == -9


def test_an_overlay_takes_color_map_opacity_and_size() -> None:
    one = sample_explanation()
    assert one.overlay(size=(64, 48)).size == (64, 48)
    np.testing.assert_array_equal(np.asarray(one.overlay(alpha=0, background="color")), one.image)
    assert one.overlay("vik") == one.overlay()
    assert one.overlay("jet") != one.overlay()
    with pytest.raises(OptionError, match="Unknown color map: 'jett'"):
        one.overlay("jett")
    for size, alpha, message in (((0, 4), 1, "size must be"), (None, 2, "alpha must be")):
        with pytest.raises(OptionError, match=message):
            one.overlay(alpha=alpha, size=size)


def test_a_notebook_leaves_out_a_sum_that_means_nothing() -> None:
    one = sample_explanation(evidence={})
    assert one.additive
    assert ">sum<" in one._repr_html_()
    assert ">sum<" not in one.replace(evidence={"additive": False})._repr_html_()
