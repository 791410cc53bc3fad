"""Fixes are judged on what they had not seen, and beside what needs no training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cvx_diagnose import diagnose
from cvx_diagnose.analysis.fixes.halves import Halves
from cvx_diagnose.analysis.fixes.last_layer import _relabeled, try_fixes
from cvx_engine.local import Local
from PIL import Image
from torch import nn

from cvx_core import Preprocess, VisionModel

SIDE, CLASSES = 8, ("ant", "bee", "cat", "dog")


def by_pixels(weight: torch.Tensor) -> VisionModel:
    """Return a network whose features are the pixels themselves."""
    size = 3 * SIDE * SIDE
    net = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(size, len(CLASSES), bias=False))
    with torch.no_grad():
        net[2].weight.copy_(weight)
    plain = Preprocess(crop=SIDE, mean=(0.5,) * 3, std=(0.5,) * 3)
    return VisionModel(net.eval(), preprocess=plain, classes=CLASSES)


def test_labels_by_chance_are_not_learned_even_of_files_that_are_there_twice(
    tmp_path: Path,
) -> None:
    """A layer that had seen what it is judged on would know it by heart: 192 features, 60 files."""
    chance = np.random.default_rng(0)
    for name in CLASSES[:3]:
        (tmp_path / "data" / name).mkdir(parents=True)
    for k in range(60):
        pixels = chance.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        for copy in "ab":
            label = CLASSES[k % 3]
            Image.fromarray(pixels).save(tmp_path / f"data/{label}/{k}{copy}.png")
    model = by_pixels(torch.zeros(len(CLASSES), 3 * SIDE * SIDE))
    fix, *_ = try_fixes(
        diagnose(model, tmp_path / "data", tmp_path / "run", budget=0, engine=Local(workers=1))
    )
    assert fix["tried"]
    assert fix["trained_on"] + fix["evaluated_on"] == 120
    # A third by chance; of some sixty, four deviations beyond that.
    assert fix["after"] < 0.58


def test_a_new_layer_is_held_against_the_old_one_among_the_same_classes(tmp_path: Path) -> None:
    """The network says dog to all; without that class, of which there is none, it is right."""
    for name, value in (("ant", 40), ("bee", 215)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(30):
            shade = Image.new("RGB", (SIDE, SIDE), (value + k - 15,) * 3)
            shade.save(tmp_path / f"data/{name}/{k}.png")
    weight = torch.zeros(len(CLASSES), 3 * SIDE * SIDE)
    weight[0], weight[1] = -0.01, 0.01
    model = by_pixels(weight)
    model.module[2].bias = nn.Parameter(torch.tensor([0.0, 0.0, 0.0, 9.0]))
    run = diagnose(
        model, tmp_path / "data", tmp_path / "run", budget=0, engine=Local(workers=1), try_fix=True
    )
    assert run.summary is not None
    fix, *_ = run.summary["fixes"]
    assert (fix["before"], fix["restricted"], fix["after"]) == (0.0, 1.0, 1.0)
    assert (fix["change"], fix["fixed"], fix["broken"], fix["gain"]) == (0.0, 0, 0, 1.0)
    assert "retrain" not in [one["kind"] for one in run.summary["advice"]]


@pytest.mark.parametrize("again", [{}, {"try_fix": True}])
def test_what_was_tried_once_is_told_whenever_the_run_is_gone_on_with(
    tmp_path: Path, again: dict[str, bool]
) -> None:
    for name, value in (("ant", 40), ("bee", 215)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(30):
            shade = Image.new("RGB", (SIDE, SIDE), (value + k - 15,) * 3)
            shade.save(tmp_path / f"data/{name}/{k}.png")
    weight = torch.zeros(len(CLASSES), 3 * SIDE * SIDE)
    weight[0], weight[1] = 0.01, -0.01
    model, engine = by_pixels(weight), Local(workers=1)
    folder = tmp_path / "run"
    first = diagnose(model, tmp_path / "data", folder, budget=0, engine=engine, try_fix=True)
    assert first.summary is not None
    result = first.summary
    assert result["fixes"][0]["after"] == 1.0
    assert "retrain" in [one["kind"] for one in result["advice"]]
    more = diagnose(model, tmp_path / "data", folder, budget=0, engine=engine, resume=True, **again)
    assert more.summary == result


def test_corrected_labels_gain_what_the_network_itself_lacks() -> None:
    labels = np.repeat([0, 1], 60)
    right = labels.copy()
    train, test = np.arange(0, 120, 2), np.arange(1, 120, 2)
    # Most labels of one class are wrong where the layer is trained, and the network is right.
    wrong = train[:30][:25]
    labels[wrong] = 1
    features = np.stack([right == 0, right == 1], 1).astype(np.float64)
    every = np.arange(120)
    halves = Halves(every, every, labels, np.ones(120, dtype=bool), features, 1.0, train, test)
    issues = [{"id": int(k), "suggested": 0} for k in wrong]
    run = SimpleNamespace(plan=None)
    found = _relabeled(run, halves, issues, None)  # type: ignore[arg-type]
    assert found is not None
    assert (found["before"], found["after"], found["gain"]) == (0.5, 1.0, 0.0)
