"""Slices that got worse between two runs are named, and chance is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from cvx_diagnose import Run, diagnose
from cvx_diagnose.analysis.metrics.comparison import compare
from cvx_diagnose.analysis.metrics.statistics import adjust_p_values
from cvx_diagnose.analysis.slices.changes import changes_of, slice_changes
from cvx_diagnose.analysis.slices.properties import Property
from cvx_diagnose.analysis.slices.units import Units, unit_keys, unit_results
from cvx_diagnose.report.text import regression_lines, summary_lines
from cvx_engine.local import Local
from PIL import Image
from torch import Tensor, nn

from cvx_core import Preprocess, VisionModel
from cvx_core.testing.models import CLASSES

NAMES = ["ant", "bee", "cat", "dog"]
QUICK: dict[str, Any] = {"block_size": 512, "budget": 0.0, "engine": Local(workers=1)}


def units_of(seed: int, count: int = 1200) -> Units:
    """Return units of four classes, 90 % of which are right, whatever their properties."""
    draw = np.random.default_rng(seed)
    return Units(
        noun="images",
        ids=np.arange(count),
        right=draw.random(count) > 0.1,
        classes=draw.integers(0, 4, count),
        searched=draw.random(count) < 0.5,
        properties=[Property("brightness", "dark {}", "bright {}")],
        values=draw.normal(size=(count, 1)).astype(np.float32),
    )


def test_what_a_slice_loses_is_measured_on_the_half_that_it_was_not_found_on() -> None:
    units = units_of(0)
    dark = units.values[:, 0] < -1
    right = units.right & ~(dark & (np.random.default_rng(1).random(len(units)) < 0.6))
    [one], tried = changes_of(units, right, np.ones(len(units), bool), NAMES.__getitem__)
    assert one["name"] == "dark images"
    assert tried >= 1
    # The bound may be a few images away from the planted one.
    assert one["count"] == pytest.approx(dark.sum() / 2, rel=0.25)
    assert one["before"] == pytest.approx(units.right[dark].mean(), abs=0.05)
    assert one["after"] == pytest.approx(right[dark].mean(), abs=0.08)
    assert one["high"] < 0
    assert one["better"] == 0


def test_an_earlier_slice_is_compared_though_nothing_broke() -> None:
    units = units_of(2)
    dark = units.values[:, 0] < -1
    units = units.with_right(units.right & ~(dark & (np.arange(len(units)) % 3 > 0)))
    [one], _ = changes_of(units, units.right | dark, np.ones(len(units), bool), NAMES.__getitem__)
    assert one["name"] == "dark images"
    assert one["change"] > 0.5
    assert one["worse"] == 0


def test_chance_is_rarely_a_regression() -> None:
    alarms = 0
    for seed in range(30):
        units = units_of(seed)
        churn = np.random.default_rng(100 + seed).random(len(units)) > 0.1
        changes, tried = changes_of(units, churn, np.ones(len(units), bool), NAMES.__getitem__)
        unlisted = [1.0] * (tried - len(changes))
        adjusted = adjust_p_values([*(one["p"] for one in changes), *unlisted])
        alarms += any(
            p < 0.05 and one["high"] < 0 for p, one in zip(adjusted, changes, strict=False)
        )
    # 5 % of 30 are 1.5.
    assert alarms <= 3


def test_objects_of_one_image_are_one_input() -> None:
    units = replace(units_of(0), noun="objects", ids=np.arange(1200) // 4)
    dark = np.repeat(np.random.default_rng(5).random(300) < 0.3, 4)
    units.values[:, 0] = np.where(dark, -2, 0) + 0.1 * units.values[:, 0]
    units.searched = np.repeat(np.arange(300) % 2 == 0, 4)
    changes, _ = changes_of(units, units.right & ~dark, np.ones(1200, bool), NAMES.__getitem__)
    assert changes[0]["count"] == dark[~units.searched].sum() / 4
    assert changes[0]["worse"] <= changes[0]["count"]


def test_units_are_known_by_image_class_and_rank() -> None:
    assert unit_keys([7, 7, 7, 8], [1, 2, 1, 1]) == [(7, 1, 0), (7, 2, 0), (7, 1, 1), (8, 1, 0)]


class Lookup(nn.Module):
    """Reads class and number of an image from its first pixel; wrong for some numbers."""

    def __init__(self, wrong: range) -> None:
        super().__init__()
        self.wrong, self.head = wrong, nn.Linear(10, 5)
        with torch.no_grad():
            self.head.bias.zero_()
            self.head.weight.copy_(torch.cat([8 * torch.eye(5), torch.zeros(5, 5)], 1))

    def forward(self, x: Tensor) -> Tensor:
        true, number = ((255 * x[:, c, 0, 0]).round().long() for c in (0, 1))
        said = true + ((number >= self.wrong.start) & (number < self.wrong.stop)).long()
        # The features know the true class, so that no label is suspected.
        known = [nn.functional.one_hot(one % 5, 5) for one in (said, true)]
        found: Tensor = self.head(torch.cat(known, 1).to(x.dtype))
        return found


def network(wrong: range) -> VisionModel:
    plain = Preprocess(crop=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    return VisionModel(Lookup(wrong).eval(), preprocess=plain, classes=CLASSES, name="net")


def test_objects_of_a_run_are_right_if_a_box_of_their_class_finds_them() -> None:
    def box(left: float, c: int, **more: Any) -> dict[str, Any]:
        return {"box": [left, 0.0, left + 10, 10.0], "class": c, **more}

    row = {
        "id": 4,
        "status": "ok",
        "correct": False,
        "width": 100,
        "height": 100,
        "detections": [box(1, 1, score=0.9), box(40, 1, score=0.2), box(70, 0, score=0.9)],
        "ground_truth": [box(k, c, crowd=False) for k, c in ((0, 1), (40, 1), (70, 0))],
    }
    failed = {**row, "id": 5, "status": "model failure", "correct": None}
    run: Any = SimpleNamespace(
        plan=SimpleNamespace(threshold=0.5),
        schema=SimpleNamespace(names=["detections"]),
        blocks=lambda columns: [pa.Table.from_pylist([row, failed]).select(columns)],
    )
    assert unit_results(run) == {(4, 1, 0): True, (4, 1, 1): False, (4, 0, 0): True}


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Run, Run, Path]:
    """Two runs over 300 images, 20 of 60 of each class dark.

    The first is wrong on 13 bright ones of each class, the second on 13 dark ones.
    """
    draw = np.random.default_rng(0)
    data = tmp_path / "data"
    for c, name in enumerate(CLASSES):
        (data / name).mkdir(parents=True)
        for k in range(60):
            pixels = draw.integers(0, 60 if k < 20 else 256, (32, 32, 3), dtype=np.uint8)
            pixels[0, 0, :2] = c, k
            Image.fromarray(pixels).save(data / name / f"{k}.png")
    return (
        diagnose(network(range(47, 60)), data, tmp_path / "old", **QUICK),
        diagnose(network(range(13)), data, tmp_path / "new", compare=tmp_path / "old", **QUICK),
        data,
    )


def test_a_slice_that_got_worse_is_a_regression_though_accuracy_stays_equal(
    runs: tuple[Run, Run, Path],
) -> None:
    old, new, _ = runs
    assert not compare(new, old)["regression"]
    assert new.summary is not None
    found = new.summary["comparison"]
    assert (found["before"], found["after"], found["regressed"]) == (235, 235, [])
    assert found["regression"]
    worse = [one for one in found["slices"] if one["regressed"]]
    assert worse
    assert worse[0]["rules"][0]["property"] == "brightness"
    # 13 of 20 dark images of each class.
    assert worse[0]["after"] == pytest.approx(7 / 20, abs=0.15)
    assert found["worst_group"]["name"] == worse[0]["name"]
    [line, *_] = regression_lines(new.summary)
    assert line.startswith(f"worse than in old: accuracy in {worse[0]['name']} went from 100.0 %")
    assert any(one.startswith("worst group: ") for one in summary_lines(new.summary))


def test_an_input_that_the_model_fails_on_is_wrong_and_one_that_is_gone_does_not_count(
    runs: tuple[Run, Run, Path],
) -> None:
    old, new, _ = runs
    paths = old.table(["path"])["path"].to_pylist()
    dark = [k for k, path in enumerate(paths) if int(path.rpartition("/")[2][:-4]) in range(13, 20)]

    def dark_images(rows: list[int], status: str) -> tuple[int, int]:
        pairs = [({"id": k}, {"id": k, "status": status if k in dark else "ok"}) for k in rows]
        changes, _ = slice_changes(new, old, pairs)
        of = [one for one in changes if one["rules"][0].get("property") == "brightness"]
        [one] = [one for one in of if "at most" in one["rules"][0]]
        return one["count"], one["worse"]

    count, worse = dark_images([*range(300)], "ok")
    # All dark images of the half are in it: the 13 of 20 that broke, and the others.
    assert dark_images([*range(300)], "model failure") == (count, count)
    assert dark_images([k for k in range(300) if k not in dark], "ok") == (worse, worse)
