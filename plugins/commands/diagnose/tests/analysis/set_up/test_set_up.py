"""A broken set-up is the first advice, and what rests on it is withheld."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cvx_diagnose import Run, diagnose
from cvx_diagnose.analysis.set_up.class_order import find_permutation
from cvx_diagnose.analysis.set_up.inputs import far_inputs, input_statistics
from cvx_diagnose.analysis.set_up.normalization import better_normalization, normalization_of
from cvx_diagnose.report.text import summary_lines
from cvx_engine.local import Local
from PIL import Image
from torch import nn

from cvx_core import Preprocess, VisionModel

COLORS = ("red", "green", "blue", "gray")


class Brightest(nn.Module):
    """Logits of the brightest channel, and of none; made for values from -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.last = nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(4, 3)[:, :, None, None])
            self.first.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.3]))
            self.last.weight.copy_(8 * torch.eye(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu().mean((2, 3)))


def network(order: Any = range(4), **preprocess: Any) -> VisionModel:
    settings = {"mean": (0.5,) * 3, "std": (0.5,) * 3, **preprocess}
    prepared = Preprocess(crop=8, resize=8, **settings)
    names = [COLORS[k] for k in order]
    return VisionModel(Brightest().eval(), preprocess=prepared, classes=names, name="net")


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    """Forty noisy images of each color."""
    generator = np.random.default_rng(0)
    for c, name in enumerate(COLORS):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for k in range(40):
            mean = np.full(3, 110.0)
            if c < 3:
                mean[c] = 230
            pixels = generator.normal(mean, 20, (8, 8, 3)).clip(0, 255).astype(np.uint8)
            pixels[0, 0], pixels[0, 1] = 0, 255
            Image.fromarray(pixels).save(folder / f"{k}.png")
    return tmp_path / "data"


def run_of(model: VisionModel, data: Path, **options: Any) -> Run:
    folder = data.parent / "run"
    return diagnose(model, data, folder, budget=0, engine=Local(workers=1), **options)


def first(run: Run) -> dict[str, Any]:
    assert run.summary is not None
    return dict(run.summary["advice"][0]) | {"finding": run.summary["set_up"][0]}


def test_a_set_up_that_is_right_has_no_finding(colors: Path) -> None:
    run = run_of(network(), colors)
    assert run.summary is not None
    assert run.summary["accuracy"]["value"] > 0.95
    assert run.summary["set_up"] == []
    assert run.summary["withheld"] == ""


def test_classes_in_another_order_are_given_with_the_accuracy_read_so(colors: Path) -> None:
    run = run_of(network((1, 2, 3, 0)), colors)
    advice = first(run)
    assert advice["kind"] == "set-up"
    found = advice["finding"]["permutation"]
    # The network says "green" of red images; class 0 is green, so red is class 3.
    assert found["pairs"] == [
        {"label": (c + 1) % 4, "predicted": (c + 2) % 4} for c in (3, 0, 1, 2)
    ]
    assert found["shift"] == 1
    assert (found["before"], found["after"]) == pytest.approx((0, 1), abs=0.05)
    assert "red as green" in advice["text"]
    assert "shifted by 1 of 4" in advice["text"]
    assert "--classes-map" in advice["text"]
    assert run.summary is not None
    assert run.summary["label_issues"]["listed"] == []
    assert run.summary["error_groups"] == []
    assert "are withheld" in "\n".join(summary_lines(run.summary))
    assert "are withheld" in (run.folder / "index.html").read_text()


def test_accuracy_near_chance_is_the_first_advice(colors: Path) -> None:
    model = network()
    with torch.no_grad():
        model.module.last.weight.zero_()  # type: ignore[union-attr]
    run = run_of(model, colors)
    advice = first(run)
    assert advice["finding"]["kind"] == "chance"
    assert "25.0 %, where predictions independent of the labels would have 25.0 %" in advice["text"]
    assert "withheld" in advice["text"]


def test_another_normalization_is_named_with_what_it_gains(colors: Path) -> None:
    run = run_of(network(mean=(0.0,) * 3, std=(1.0,) * 3), colors)
    finding = first(run)["finding"]
    assert (finding["kind"], finding["now"], finding["better"]) == ("inputs", "0 to 1", "-1 to 1")
    assert finding["after"] > 0.95 > 0.85 > finding["before"]


def test_a_class_that_is_never_predicted_is_named(colors: Path) -> None:
    model = network()
    with torch.no_grad():
        model.module.last.weight[2] = -1  # type: ignore[union-attr,index]
    run = run_of(model, colors)
    finding = first(run)["finding"]
    assert finding["kind"] == "never predicted"
    assert finding["classes"] == [2]
    assert "Never predicted: blue, with 40 labeled inputs" in finding["text"]
    assert run.summary is not None
    assert not any(one["label"] == 2 for one in run.summary["label_issues"]["listed"])


def test_missing_labels_are_said(colors: Path) -> None:
    for k in range(10):
        (colors / "red" / f"{k}.png").rename(colors / f"loose{k}.png")
    run = run_of(network(), colors)
    assert first(run)["text"].startswith("150 of 160 inputs have a label")


def test_missing_masks_are_said_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "masks").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "data" / "images" / "camera.jpg")
    module = nn.Conv2d(3, 2, 1).eval()
    model = VisionModel(module, preprocess=Preprocess(crop=32), task="segmentation")
    run = run_of(model, tmp_path / "data")
    text = first(run)["text"]
    assert "has no label" in text or "0 of 1" in text
    assert "masks/camera.png, masks/camera_mask.png" in text
    assert run.summary is not None
    assert "masks/camera_mask.png" in "\n".join(summary_lines(run.summary))


def confusion(pairs: dict[tuple[int, int], int], classes: int = 6) -> Any:
    found = np.zeros((classes, classes))
    for (y, q), count in pairs.items():
        found[y, q] = count
    return found


def test_two_exchanged_classes_are_a_permutation_and_one_that_is_misread_is_none() -> None:
    right = {(c, c): 20 for c in range(6)}
    exchanged = confusion({**right, (0, 0): 1, (0, 1): 19, (1, 1): 2, (1, 0): 18})
    found = find_permutation(exchanged, exchanged)
    assert found is not None
    assert found["pairs"] == [{"label": 0, "predicted": 1}, {"label": 1, "predicted": 0}]
    assert found["after"] == pytest.approx(117 / 120)
    misread = confusion({**right, (0, 0): 1, (0, 1): 19})
    assert find_permutation(misread, misread) is None
    # What one half alone shows is chance.
    assert find_permutation(exchanged, confusion(right)) is None


def test_labels_of_part_of_the_classes_may_be_permuted_too() -> None:
    shifted = confusion({(c, c + 2): 20 for c in range(3)})
    found = find_permutation(shifted, shifted)
    assert found is not None
    assert [one["predicted"] for one in found["pairs"]] == [2, 3, 4]
    assert found["shift"] == 2


def normalized(shift: float, scale: float) -> tuple[VisionModel, list[torch.Tensor]]:
    """Return a network whose batch normalization saw standard normal values, and other values."""
    net = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    net[0].running_mean[:] = 1e-6  # statistics as they begin would not count
    values = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return VisionModel(net.eval(), classes=("a", "b")), list(shift + scale * values)


def test_a_batch_normalization_that_was_never_trained_judges_nothing() -> None:
    model, inputs = normalized(9, 9)
    model.module[0].running_mean.zero_()  # type: ignore[index,operator,union-attr]
    found = input_statistics(model, inputs)
    assert found is not None
    assert found["layer"] is None


@pytest.mark.parametrize(
    ("shift", "scale", "far"),
    [(0, 1, False), (0.5, 1.3, False), (2, 1, True), (0, 4, True), (0, 0.2, True)],
)
def test_inputs_are_compared_with_the_first_batch_normalization(
    shift: float, scale: float, far: bool
) -> None:
    model, inputs = normalized(shift, scale)
    found = input_statistics(model, inputs)
    assert found is not None
    assert found["layer"] == "0"
    assert found["distance"] == pytest.approx(shift, abs=0.1 * scale)
    assert found["ratio"] == pytest.approx(scale, rel=0.05)
    assert bool(far_inputs(found)) is far


def test_usual_normalizations_are_recognized_by_their_range() -> None:
    unit = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    by_image_net = (unit - mean[:, None, None]) / std[:, None, None]
    for values, name in [
        (unit, "0 to 1"),
        (255 * unit, "0 to 255"),
        (2 * unit - 1, "-1 to 1"),
        (by_image_net, "by ImageNet's mean and standard deviation"),
        (7 * unit, None),
    ]:
        assert normalization_of(list(values)) == name


def test_a_network_that_predicts_as_well_either_way_has_no_better_normalization() -> None:
    model = network()
    inputs = list(torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    labels = [int(model.logits(one[None])[0].argmax()) for one in inputs]
    assert better_normalization(model, inputs, labels) is None
