"""Slices that were planted are found, and none where results are chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cvx_diagnose.analysis.slices.candidates import likelihood_ratio
from cvx_diagnose.analysis.slices.properties import Property
from cvx_diagnose.analysis.slices.search import Slices, slices_of, slices_of_each
from cvx_diagnose.analysis.slices.units import Units, _components, _half
from scipy.stats import chi2_contingency

from cvx_core.explanations import encode_json

NAMES = ["ant", "bee", "cat", "dog"]


def units_of(seed: int = 0, count: int = 2000) -> Units:
    """Return units of four classes, whose properties are noise and 95 % of which are right."""
    generator = np.random.default_rng(seed)
    properties = [
        Property("brightness", "dark {}", "bright {}", ("augment with brightness", "")),
        Property("sharpness", "blurred {}", "sharp {}"),
        Property(
            "corner", "{} that are dark at the top left", "{} that are bright at the top left"
        ),
    ]
    return Units(
        noun="images",
        ids=np.arange(count),
        right=generator.random(count) > 0.05,
        classes=generator.integers(0, 4, count),
        searched=generator.random(count) < 0.5,
        properties=properties,
        values=generator.normal(size=(count, 3)).astype(np.float32),
        categories={"camera": generator.choice(["A", "B", "C"], count)},
        features=generator.normal(size=(count, 4)).astype(np.float32),
    )


def with_errors(units: Units, where: np.ndarray, share: float = 0.7, seed: int = 9) -> Units:
    drawn = np.random.default_rng(seed).random(len(units)) < share
    return units.with_right(units.right & ~(where & drawn))


def overlap(slices: Slices, k: int, where: np.ndarray) -> float:
    """Return the F1 of a slice's members."""
    found, wanted = set(slices.members[k].tolist()), set(np.flatnonzero(where).tolist())
    return 2 * len(found & wanted) / (len(found) + len(wanted))


def test_dark_images_of_one_class_are_named_and_counted_on_the_other_half() -> None:
    units = units_of()
    where = (units.classes == 2) & (units.values[:, 0] < -0.8)
    units = with_errors(units, where)
    slices = slices_of(units, NAMES.__getitem__)
    [one] = slices.described
    assert one["name"] == "dark images of cat"
    assert one["class"] == 2
    assert one["fix"] == "augment with brightness"
    assert overlap(slices, 0, where) > 0.9
    members = np.isin(units.ids, slices.members[0])
    halves = [members & half for half in (units.searched, ~units.searched)]
    counts = [((units.right & half).sum(), half.sum()) for half in halves]
    assert (one["inside"]["right"], one["inside"]["total"]) in counts
    assert one["inside"]["low"] < one["inside"]["value"] < one["inside"]["high"] < 0.6
    assert one["outside"]["value"] > 0.9
    assert set(slices_of_each(slices)) == set(slices.errors[0].tolist())
    # The clearest examples are the darkest ones.
    values = units.values[slices.errors[0], 0]
    assert (np.diff(values) >= 0).all()
    assert one["examples"] == slices.errors[0][:6].tolist()


def test_a_property_of_all_classes_has_no_class_in_its_name() -> None:
    units = units_of(1)
    where = units.values[:, 1] < -1.2
    slices = slices_of(with_errors(units, where), NAMES.__getitem__)
    assert [one["name"] for one in slices.described] == ["blurred images"]
    assert overlap(slices, 0, where) > 0.9


def test_a_value_of_a_column_and_a_class_are_a_slice_together() -> None:
    units = units_of(2)
    where = (units.categories["camera"] == "B") & (units.classes == 3)
    slices = slices_of(with_errors(units, where), NAMES.__getitem__)
    assert [one["name"] for one in slices.described] == ["images of dog with camera B"]
    assert overlap(slices, 0, where) == 1


def test_a_cluster_of_features_is_a_slice_whatever_its_images_look_like() -> None:
    units = units_of(3)
    where = np.random.default_rng(5).random(len(units)) < 0.08
    units = replace(units, features=units.features + 8 * where[:, None])
    slices = slices_of(with_errors(units, where), NAMES.__getitem__)
    assert [one["name"] for one in slices.described] == ["images with similar features"]
    assert overlap(slices, 0, where) > 0.9


def test_two_causes_are_two_slices() -> None:
    units = units_of(4, 3000)
    dark, blurred = units.values[:, 0] < -1.3, (units.values[:, 1] < -0.6) & (units.classes == 1)
    slices = slices_of(with_errors(with_errors(units, dark), blurred, seed=8), NAMES.__getitem__)
    names = [one["name"] for one in slices.described]
    assert names == ["dark images", "blurred images of bee"]
    gains = [one["gain"] for one in slices.described]
    assert gains == sorted(gains, reverse=True)
    assert [one["number"] for one in slices.described] == [0, 1]


def test_errors_of_one_half_alone_are_no_slice() -> None:
    units = units_of(7)
    dark = units.values[:, 0] < -1.2
    everywhere = with_errors(units, dark)
    assert slices_of(everywhere, NAMES.__getitem__).described
    assert slices_of(with_errors(units, dark & units.searched), NAMES.__getitem__).described == []


def test_a_rare_slice_beside_a_large_one_is_compared_with_what_that_leaves() -> None:
    units = units_of(8)
    dark, blurred = units.values[:, 0] < -0.5, units.values[:, 1] < -1.5
    units = with_errors(with_errors(units, dark, 0.9), blurred & ~dark, 0.3, seed=8)
    slices = slices_of(units, NAMES.__getitem__)
    named = {one["name"]: one for one in slices.described}
    assert set(named) == {"dark images", "blurred images"}
    # Of all others, dark ones included, a third is wrong, as of the blurred ones.
    assert named["blurred images"]["outside"]["value"] > 0.9


def test_a_bound_in_a_gap_is_preferred_to_one_among_other_values() -> None:
    units = units_of(9)
    where = np.random.default_rng(3).random(len(units)) < 0.1
    # The same images are the brightest and the sharpest, and apart from others by sharpness.
    order = np.sort(units.values[:, 0])
    units.values[~where, 0], units.values[where, 0] = np.split(order, [(~where).sum()])
    units.values[where, 1] += 10
    slices = slices_of(with_errors(units, where), NAMES.__getitem__)
    assert [one["name"] for one in slices.described] == ["sharp images"]


def test_nothing_is_found_where_results_are_permuted() -> None:
    units = units_of(6, 1000)
    units = replace(units, features=units.features[:, :0])
    units = with_errors(units, (units.classes == 2) & (units.values[:, 0] < -0.8))
    assert slices_of(units, NAMES.__getitem__).described
    alarms = 0
    for seed in range(20):
        permuted = np.random.default_rng(seed).permutation(units.right)
        alarms += bool(slices_of(units.with_right(permuted), NAMES.__getitem__).described)
    # One in twenty is expected at a rate of false discoveries of 5 %.
    assert alarms <= 1


def test_few_units_have_no_slices() -> None:
    units = units_of(0, 30)
    assert slices_of(units.with_right(units.values[:, 0] > 0), NAMES.__getitem__).described == []


def test_copies_of_a_file_are_in_one_half() -> None:
    files = np.array([f"{k % 40:064x}" for k in range(120)], dtype=object)
    half = _half(files)
    assert half.sum() == 60
    assert all(len(set(half[files == name])) == 1 for name in files)


def test_objects_of_one_image_count_less_the_more_alike_their_results_are() -> None:
    units = units_of(0, 400)
    images = np.repeat(np.arange(100), 4)
    results = np.random.default_rng(0).random(100) > 0.3
    alike = replace(units, ids=images, right=np.repeat(results, 4))
    assert units.design_effect == 1
    # Four equal results in each image are worth one.
    assert alike.design_effect == pytest.approx(4)


def test_the_likelihood_ratio_is_that_of_a_table() -> None:
    found = likelihood_ratio(np.array(9.0), np.array(20.0), 15.0, 100.0)
    table = [[9, 11], [6, 74]]
    expected = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
    assert float(found) == pytest.approx(expected)
    assert float(likelihood_ratio(np.array(1.0), np.array(20.0), 15.0, 100.0)) == 0


def test_components_keep_the_distances_of_features_of_few_dimensions() -> None:
    generator = np.random.default_rng(0)
    features = (generator.normal(size=(100, 8)) @ generator.normal(size=(8, 40))).astype(np.float32)
    found = _components(features, np.ones(100, dtype=bool))
    assert found.shape == (100, 16)
    before, after = (np.linalg.norm(one[:50] - one[50:], axis=1) for one in (features, found))
    assert after == pytest.approx(before, rel=1e-3)


@pytest.mark.parametrize("value", ["{x}", "{", "{}", "\ud800"])
def test_a_column_may_hold_braces_and_what_is_no_text(value: str) -> None:
    units = units_of()
    where = units.categories["camera"] == "A"
    units.categories = {"{0} name": np.where(where, value, "other")}
    [one] = slices_of(with_errors(units, where), NAMES.__getitem__).described
    shown = value.encode("ascii", "backslashreplace").decode()
    assert one["name"] == f"images with {{0}} name {shown}"
    assert encode_json(one)
