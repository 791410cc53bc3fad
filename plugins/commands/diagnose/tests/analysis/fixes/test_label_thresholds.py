"""Thresholds of several labels are found on one half, and judged on the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cvx_diagnose import diagnose
from cvx_engine.local import Local
from PIL import Image
from torch import nn

from cvx_core import Preprocess, VisionModel

NAMES = ("red", "green", "blue")


def network(bias: tuple[float, float, float]) -> VisionModel:
    """Return a network whose logit of a color is 10 times its mean, and a bias."""
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    with torch.no_grad():
        net[2].weight.copy_(10 * torch.eye(3))
        net[2].bias.copy_(torch.tensor(bias))
    plain = Preprocess(crop=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    return VisionModel(net.eval(), preprocess=plain, classes=NAMES, task="multi-label")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Plain images with the colors of more than 0.5 as their labels."""
    generator = np.random.default_rng(0)
    lines = ["path,label"]
    for k in range(80):
        color = generator.choice([0.1, 0.3, 0.42, 0.58, 0.7, 0.9], 3)
        Image.new("RGB", (8, 8), tuple(round(255 * one) for one in color)).save(
            tmp_path / f"{k}.png"
        )
        labels = [name for name, one in zip(NAMES, color, strict=True) if one > 0.5]
        lines.append(f'{k}.png,"{", ".join(labels) or "none"}"')
    (tmp_path / "data.csv").write_text("\n".join(lines))
    return tmp_path / "data.csv"


def tried(
    data: Path, bias: tuple[float, float, float], **options: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the fix of a run, and the advice about thresholds."""
    folder, engine = data.parent / "run", Local(workers=1)
    run = diagnose(network(bias), data, folder, budget=0, engine=engine, try_fix=True, **options)
    assert run.summary is not None
    [fix] = run.summary["fixes"]
    return fix, [one for one in run.summary["advice"] if one["kind"] == "threshold"]


def test_the_threshold_of_a_label_is_tuned_and_right_ones_stay(data: Path) -> None:
    # Red is predicted from 0.8 of it, where 0.5 of it has the probability 0.05.
    fix, advice = tried(data, (-8.0, -5.0, -5.0))
    assert set(fix["thresholds"]) == {"red"}
    # Of 0.42 and of 0.58 red the probabilities are 0.022 and 0.1.
    assert fix["thresholds"]["red"] in (0.05, 0.1)
    assert (fix["trained_on"] + fix["evaluated_on"], fix["after"]) == (80, 1.0)
    assert fix["before"] < 0.95
    assert 0 < fix["low"] <= fix["change"] <= fix["high"]
    assert fix["broken"] == 0
    assert fix["p"] < 0.01
    assert fix["gain"] == pytest.approx(fix["fixed"] / fix["evaluated_on"])
    [one] = advice
    assert one["proven"]
    assert f"(red {fix['thresholds']['red']:g})" in one["text"]


def test_thresholds_fitted_to_chance_are_not_advised(data: Path) -> None:
    lines = data.read_text().splitlines()
    paths, labels = zip(*(line.split(",", 1) for line in lines[1:]), strict=True)
    drawn = np.random.default_rng(1).permutation(len(paths))
    shuffled = [f"{path},{labels[k]}" for path, k in zip(paths, drawn, strict=True)]
    data.write_text("\n".join([lines[0], *shuffled]))
    fix, advice = tried(data, (-5.0, -5.0, -5.0))
    assert fix["tried"]
    assert advice == []


def test_few_images_are_too_few(data: Path) -> None:
    fix, _ = tried(data, (-5.0, -5.0, -5.0), limit=10)
    assert (fix["tried"], fix["note"]) == (False, "It needs 20 labeled images, got 10.")
