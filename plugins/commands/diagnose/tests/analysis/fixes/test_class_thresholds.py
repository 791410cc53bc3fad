"""Thresholds of a segmenter's classes are found on one half, and judged on the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cvx_diagnose import Run, diagnose
from cvx_diagnose.analysis.fixes.class_thresholds import STEPS, best_offsets
from cvx_engine.local import Local
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from cvx_core import Preprocess, VisionModel

NAMES = ("red", "green", "blue")


class Net(nn.Module):
    """A pixel's logits are 10 times its colors, and a bias; with an auxiliary head, not read."""

    def __init__(self, bias: tuple[float, ...], learned: bool = True) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1, bias=learned)
        self.auxiliary = nn.Conv2d(3, 3, 1)
        self.register_buffer("fixed", torch.tensor(bias)[:, None, None])
        with torch.no_grad():
            self.head.weight.copy_(10 * torch.eye(3)[:, :, None, None])
            if learned:
                self.head.bias.copy_(torch.tensor(bias))  # type: ignore[arg-type]
                self.fixed.zero_()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        scores = self.head(x) + self.fixed
        return {
            "out": nn.functional.interpolate(scores, scale_factor=2.0),
            "aux": self.auxiliary(x),
        }


class Foreground(nn.Module):
    """One channel: the logit of the second of two classes."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([0.0, 0.0, 10.0])[None, :, None, None])
            self.head.bias.fill_(bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def network(net: nn.Module, names: tuple[str, ...] = NAMES) -> VisionModel:
    plain = Preprocess(crop=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    return VisionModel(net.eval(), preprocess=plain, classes=names, task="segmentation")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images of noise in which the channel of a pixel's class is brighter by 0.3."""
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for k in range(60):
        mask = np.repeat(generator.integers(0, 3, 4), 64).reshape(16, 16).astype(np.uint8)
        colors = 0.3 + 0.3 * np.eye(3)[mask] + generator.normal(0, 0.08, (16, 16, 3))
        pixels = (255 * colors.clip(0, 1)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"data/images/{k}.png")
        Image.fromarray(mask).save(tmp_path / f"data/masks/{k}.png")
    return tmp_path / "data"


def tried(model: VisionModel, data: Path, folder: str = "run") -> tuple[Run, Any, Any]:
    """Return a run, its fix, and the advice about thresholds."""
    run = diagnose(
        model, data, data.parent / folder, budget=0, engine=Local(workers=1), try_fix=True
    )
    assert run.summary is not None
    [fix] = run.summary["fixes"]
    return run, fix, [one for one in run.summary["advice"] if one["kind"] == "threshold"]


def mean_iou(run: Run) -> float:
    assert run.summary is not None
    return float(run.summary["iou"]["mean"])


def test_a_class_that_is_predicted_too_rarely_gets_another_threshold(data: Path) -> None:
    run, fix, advice = tried(network(Net((0.0, 0.0, -2.5))), data)
    assert fix["trained_on"] + fix["evaluated_on"] == 60
    # What was taken from the logits of blue, relative to the others, within the noise.
    found = [fix["offsets"].get(name, 0.0) for name in NAMES]
    assert found[2] - (found[0] + found[1]) / 2 == pytest.approx(2.5, abs=0.75)
    assert fix["before"] < 0.75 < 0.95 < fix["after"]
    assert 0 < fix["low"] <= fix["change"] <= fix["high"]
    assert fix["p"] < 0.001
    [one] = advice
    assert one["proven"]
    assert f"blue {found[2]:+g}" in one["text"]
    assert "class-thresholds.safetensors (--weights)" in one["text"]
    # The weights give the network what was promised: on all images, of which half were held out.
    again = network(Net((0.0, 0.0, 0.0)))
    again.module.load_state_dict(load_file(run.folder / fix["weights"]))
    after, *_ = tried(again, data, "again")
    assert mean_iou(after) == pytest.approx(fix["after"], abs=0.02)


def test_thresholds_that_are_right_are_not_advised(data: Path) -> None:
    _, fix, advice = tried(network(Net((0.0, 0.0, 0.0))), data)
    assert fix["tried"]
    assert (advice, fix["weights"]) == ([], None)


def test_masks_of_other_images_gain_nothing_on_held_out_ones(data: Path) -> None:
    masks = sorted((data / "masks").iterdir())
    contents = [one.read_bytes() for one in masks]
    for k, mask in enumerate(masks):
        mask.write_bytes(contents[(k + 7) % len(contents)])
    _, fix, advice = tried(network(Net((0.0, 0.0, 0.0))), data)
    assert fix["tried"]
    assert advice == []


def test_one_channel_of_two_classes_is_moved_by_the_difference(data: Path) -> None:
    for mask in (data / "masks").iterdir():
        Image.fromarray((np.asarray(Image.open(mask)) == 2).astype(np.uint8)).save(mask)
    run, fix, _ = tried(network(Foreground(-6.0), ("other", "blue")), data)
    assert set(fix["offsets"]) == {"blue"}
    saved = load_file(run.folder / fix["weights"])
    assert float(saved["head.bias"]) == pytest.approx(-6.0 + fix["offsets"]["blue"])
    # Blue is 0.6 where it is the class, 0.3 elsewhere: between them the logit is 4.5.
    assert float(saved["head.bias"]) == pytest.approx(-4.5, abs=0.5)


def test_without_a_bias_nothing_is_written(data: Path) -> None:
    run, fix, [one] = tried(network(Net((0.0, 0.0, -2.5), learned=False)), data)
    assert fix["weights"] is None
    assert "--weights" not in one["text"]
    assert not list(run.folder.glob("*.safetensors"))


def test_the_network_is_left_as_it_was(data: Path) -> None:
    model = network(Net((0.0, 0.0, -2.5)))
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    tried(model, data)
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_constant_has_the_mean_iou_of_no_other() -> None:
    draw = np.random.default_rng(3)
    true = draw.integers(0, 3, 400)
    weights = draw.uniform(1, 3, 400)
    logits = draw.normal(0, 1, (400, 3)) + 2 * np.eye(3)[true] + np.array([0, 0, -1.4])

    def score(offset: float) -> float:
        said = (logits + np.array([0, 0, offset])).argmax(1)
        shares = []
        for c in range(3):
            both = weights[(said == c) & (true == c)].sum()
            shares.append(both / weights[(said == c) | (true == c)].sum())
        return float(np.mean(shares))

    found = best_offsets(logits, true, weights, np.array([2]))
    assert found[:2].tolist() == [0, 0]
    assert score(found[2]) == pytest.approx(max(map(score, STEPS)), abs=1e-12)
    assert found[2] > 0


def test_few_images_are_too_few(data: Path) -> None:
    for file in (data / "images").iterdir():
        if int(file.stem) >= 10:
            file.unlink()
    _, fix, _ = tried(network(Net((0.0, 0.0, -2.5))), data)
    assert (fix["tried"], fix["note"]) == (False, "It needs 20 labeled images, got 10.")
