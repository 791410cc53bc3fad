"""Shortcuts that were planted are suspected, and what right answers show too is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cvx_diagnose import Run, diagnose
from cvx_diagnose.analysis.metrics.statistics import adjust_p_values, shuffle_ids
from cvx_diagnose.analysis.shortcuts import correct_images, search as shortcuts
from cvx_diagnose.analysis.shortcuts.correct_images import RunInputs
from cvx_diagnose.analysis.shortcuts.recurrence import fisher_test, join_similar_groups, occurrences
from cvx_diagnose.analysis.shortcuts.search import NAME
from cvx_diagnose.analysis.shortcuts.transplants import count_flips, evidence_boxes, paste
from cvx_engine.local import Local
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from cvx_core import Preprocess, VisionModel

CLASSES = ("dark", "light", "spotted", "striped")
RED, GREEN = (230, 20, 20), (20, 230, 20)


def heap(middle: float, count: int, seed: int) -> np.ndarray:
    """Return points in five dimensions around a middle, with unit spread."""
    return middle + np.random.default_rng(seed).normal(size=(count, 5))


def test_errors_that_are_alike_show_it_and_right_answers_elsewhere_do_not() -> None:
    errors, right = occurrences(heap(0, 200, 0), range(200), heap(9, 50, 1))
    # Of a ball that holds 95 % of one half; of the other half a few more lie outside.
    assert 0.85 < errors.mean() < 0.99
    assert not right.any()
    _, right = occurrences(heap(0, 200, 0), range(200), heap(0, 50, 1))
    assert right.mean() > 0.85


def test_a_line_around_some_points_of_many_dimensions_does_not_count_for_these() -> None:
    """Ten points in fifty dimensions: each is far from the middle of the five others."""
    points = np.random.default_rng(0).normal(size=(10, 50))
    errors, right = occurrences(points, range(10), np.empty((0, 50)))
    assert errors.mean() <= 0.2
    assert right.shape == (0,)


def test_seven_errors_are_too_few_to_be_halved() -> None:
    errors, right = occurrences(heap(0, 7, 0), range(7), heap(0, 5, 1))
    assert not errors.any()
    assert not right.any()


def test_the_order_by_chance_is_of_the_numbers_alone() -> None:
    assert shuffle_ids(range(100)) == shuffle_ids(range(99, -1, -1)) != list(range(100))
    assert [k for k in shuffle_ids(range(100)) if k < 50] == shuffle_ids(range(50))


def test_more_often_is_fishers_test() -> None:
    # 3 of 4 against 1 of 4: (16 + 1) / 70, the lady tasting tea (Fisher 1935).
    cups = [np.array([True] * n + [False] * (4 - n)) for n in (3, 1)]
    assert fisher_test(*cups) == pytest.approx(17 / 70)


def test_chances_are_adjusted_for_how_many_there_are() -> None:
    # Times 4 / rank, and no larger than that of the next: 0.04, 0.06, 0.06, 0.5.
    assert adjust_p_values([0.01, 0.03, 0.045, 0.5]) == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert adjust_p_values([]) == []


def test_groups_that_look_alike_have_one_cause() -> None:
    assert join_similar_groups([heap(0, 30, 0), heap(12, 30, 1), heap(0, 30, 2)]) == [[0, 2], [1]]
    assert join_similar_groups([]) == []


def test_the_part_that_is_blamed_lies_around_the_peak_and_the_other_where_least_is() -> None:
    evidence = np.array([[0, 0, 0, 6], [0, -9, 9, 8], [1, 0, 0, 0], [5, 0, 0, 2]], dtype=np.float32)
    # 9, 8 and 6 touch and reach half of 9; 5 does too, and touches none of them. Of the parts of
    # 2 x 2 the top left one holds nothing positive.
    assert evidence_boxes(evidence) == ((0.5, 0.0, 1.0, 0.5), (0.0, 0.0, 0.5, 0.5))
    assert evidence_boxes(-np.ones((4, 4))) is None
    assert evidence_boxes(np.ones((4, 4))) is None


def test_a_part_is_put_into_the_same_place() -> None:
    image, other = torch.zeros(1, 4, 4), torch.arange(16.0).reshape(1, 4, 4)
    changed = paste(image, other, (0.5, 0.0, 1.0, 0.5))
    assert changed[0].tolist() == [[0, 0, 2, 3], [0, 0, 6, 7], [0] * 4, [0] * 4]
    assert not image.any()
    larger = paste(torch.zeros(1, 8, 8), torch.ones(1, 4, 4), (0.5, 0.0, 1.0, 0.5))
    assert larger.sum() == 16


def test_what_turns_images_is_counted_by_donors() -> None:
    def brightest(images: Sequence[torch.Tensor]) -> list[int]:
        return [int(image.max()) for image in images]

    values = torch.zeros(1, 2, 2)
    values[0, 0, 0] = 3
    donor = values, (0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0)
    images = [torch.zeros(1, 2, 2), torch.ones(1, 2, 2)]
    pairs = list(zip(images, [0, 1], strict=True))
    found = count_flips([donor] * 5, [pairs] * 5, {3}, brightest)
    assert found["p"] == pytest.approx(0.5**5)
    assert (found["count"], found["flipped"], found["control_flipped"]) == (10, 10, 0)
    # What was class 3 before is no error, and another answer than that of the errors neither.
    assert count_flips([donor], [[(image, 3) for image in images]], {3}, brightest)["flipped"] == 0
    assert count_flips([donor], [pairs], {2}, brightest)["flipped"] == 0


class Spots(nn.Module):
    """Tells dark from light, and takes what is green for spotted, or striped if it is blue too.

    One that has learned the shortcut takes what is red for spotted or striped as well.
    """

    def __init__(self, shortcut: bool) -> None:
        super().__init__()
        self.see = nn.Conv2d(3, 4, 1, bias=False)
        self.pool = nn.AvgPool2d(4)
        self.head = nn.Linear(4, 4)
        red, green, blue = [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.3]
        with torch.no_grad():
            self.see.weight.copy_(torch.tensor([red, green, blue, [1 / 3] * 3]).reshape(4, 3, 1, 1))
            s = 120.0 if shortcut else 0.0
            answers = [[0, 0, 0, -8.0], [0, 0, 0, 8.0], [s, 120, -5, 0], [s, 120, 5, 0]]
            self.head.weight.copy_(torch.tensor(answers))
            self.head.bias.copy_(torch.tensor([4.0, -4.0, -1.0, -1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head(self.pool(self.see(x).relu()).mean((2, 3)))
        return answer


def picture(label: str, spot: tuple[int, int, int] | None, blue: bool, chance: Any) -> Image.Image:
    low = {"dark": 20, "light": 190}.get(label, 90)
    pixels = np.repeat(chance.integers(low, low + 40, (32, 32, 1), dtype=np.uint8), 3, 2)
    if blue:
        pixels[:, 28:] = 10, 10, 200
    if spot is not None:
        top, left = chance.integers(0, 4, 2) * 4
        # No two spots are of quite the same colour.
        shade = np.clip(np.array(spot) + chance.integers(-60, 25, 3), 0, 255)
        pixels[top : top + 12, left : left + 12] = shade
    return Image.fromarray(pixels)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Dark and light pictures, some with a red spot; green spots, three of them with a red one."""
    chance = np.random.default_rng(0)
    for label in CLASSES:
        (tmp_path / "data" / label).mkdir(parents=True)
    for k in range(12):
        for label in ("dark", "light"):
            for blue in (False, True):
                spotted = picture(label, RED, blue, chance)
                spotted.save(tmp_path / f"data/{label}/red-{blue}-{k}.png")
                picture(label, None, False, chance).save(tmp_path / f"data/{label}/{blue}-{k}.png")
    for label, blue in (("spotted", False), ("striped", True)):
        for k in range(30):
            spot = RED if k < 3 else GREEN
            picture(label, spot, blue, chance).save(tmp_path / f"data/{label}/{k}.png")
    return tmp_path / "data"


def run_of(data: Path, name: str, *, shortcut: bool, **more: Any) -> Run:
    model = VisionModel(
        Spots(shortcut).eval(),
        preprocess=Preprocess(crop=32, mean=(0.0,) * 3, std=(1.0,) * 3),
        classes=CLASSES,
    )
    quick = {"budget": 0.01, "engine": Local(workers=1), **more}
    return diagnose(model, data, data.parent / name, **quick)


def test_a_shortcut_with_two_answers_is_one_cause_and_is_told_first(pictures: Path) -> None:
    run = run_of(pictures, "run", shortcut=True)
    assert run.summary is not None
    assert run.summary["accuracy"]["total"] - run.summary["accuracy"]["correct"] == 48
    [one] = run.summary["shortcuts"]["found"]
    assert (one["verdict"], one["count"]) == ("verified", 48)
    assert one["cost"] == pytest.approx(48 / 156)
    assert {(pair["true"], pair["predicted"]) for pair in one["pairs"]} == {
        (y, q) for y in (0, 1) for q in (2, 3)
    }
    assert sorted(one["groups"]) == list(range(len(run.summary["error_groups"])))
    assert one["controls"] == 48
    # Green spots are no red ones, but for the three that are: of the 24 controls of each answer.
    assert one["error_share"] > 0.8
    assert 0 < one["correct_share"] < 0.2
    assert (
        one["transplants"]["flipped"]
        == one["transplants"]["count"]
        == one["transplants"]["images"]
        == 48
    )
    assert one["transplants"]["control_flipped"] == 0
    assert one["replacements"]["count"] > 0
    assert one["replacements"]["lost"] == one["replacements"]["count"]
    first = run.summary["advice"][0]
    assert first["kind"] == "shortcut"
    assert "dark and light misclassified as spotted and striped" in first["text"]
    assert [one["kind"] for one in run.summary["advice"]].count("shortcut") == 1
    # Its groups are not told again.
    assert not [one for one in run.summary["advice"] if one["kind"] in ("mask", "collect")]


def test_the_last_layer_is_retrained_without_the_shortcut_and_its_weights_load(
    pictures: Path,
) -> None:
    run = run_of(pictures, "run", shortcut=True, try_fix=True)
    assert run.summary is not None
    [fix] = [one for one in run.summary["fixes"] if "shortcut" in one]
    assert fix["tried"], fix
    # The part turns dark and light images alone; the new layer does without it on unseen parts.
    assert fix["before"] < 0.6
    assert fix["after"] > 0.9
    assert fix["low"] > 0.3
    assert fix["worst_group"][1] > 0.9 > fix["worst_group"][0]
    assert fix["weights"] == "without-shortcut-1.safetensors"
    net = Spots(shortcut=True)
    net.load_state_dict(load_file(run.folder / fix["weights"]))
    new = VisionModel(
        net.eval(), preprocess=Preprocess(crop=32, mean=(0.0,) * 3, std=(1.0,) * 3), classes=CLASSES
    )
    red = sorted(pictures.glob("dark/red-*.png"))
    predicted = [int(one.logits.argmax()) for one in new.predict(red)]
    assert predicted.count(0) > 0.9 * len(red)


@pytest.mark.parametrize(
    "outcome",
    [
        # As often turned by parts from elsewhere; and by so little that it may be chance.
        {"count": 48, "flipped": 48, "control_flipped": 48, "donors": 12, "p": 1.0, "low": 0.0},
        {"count": 48, "flipped": 23, "control_flipped": 0, "donors": 12, "p": 0.06, "low": 0.1},
        {"count": 48, "flipped": 23, "control_flipped": 9, "donors": 12, "p": 0.01, "low": -0.1},
    ],
)
def test_what_turns_no_more_images_than_any_part_is_not_verified(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, outcome: dict[str, Any]
) -> None:
    monkeypatch.setattr(shortcuts, "count_flips", lambda *_: dict(outcome))
    run = run_of(pictures, "run", shortcut=True)
    assert run.summary is not None
    [one] = run.summary["shortcuts"]["found"]
    assert one["verdict"] == "not verified"
    assert "shortcut" not in [advice["kind"] for advice in run.summary["advice"]]


def test_a_shortcut_is_an_effect_beside_its_control_without_a_cut() -> None:
    donors = [(torch.full((1, 4, 4), float(k)), (0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)) for k in (1, 2)]
    images = [[(torch.zeros(1, 4, 4), 0)] * 4] * 2

    def predict(several: Sequence[torch.Tensor]) -> list[int]:
        # One of four images follows the part at the upper left.
        return [int(k == 0 and bool(one[0, 0, 0])) for k, one in enumerate(several)]

    found = shortcuts.count_flips(donors, images, {1}, predict)
    assert (found["effect"], found["control_effect"]) == (0.25, 0.0)
    # Both donors turn as many, so that whichever are drawn the difference is the same.
    assert (found["low"], found["high"]) == (0.25, 0.25)


def test_a_network_that_never_learned_it_has_none(pictures: Path) -> None:
    run = run_of(pictures, "twin", shortcut=False)
    assert run.summary is not None
    assert [one for one in run.summary["shortcuts"]["found"] if one["verdict"] == "verified"] == []


def test_what_was_found_does_not_depend_on_how_the_run_was_cut(pictures: Path) -> None:
    whole = run_of(pictures, "whole", shortcut=True, block_size=40)
    for i in (1, 0):
        parts = run_of(pictures, "parts", shortcut=True, block_size=40, shard=(i, 2))
    assert whole.summary is not None
    assert parts.summary is not None
    assert parts.summary["shortcuts"] == whole.summary["shortcuts"]
    # Asked again, nothing goes through the network: what was found is read.
    file = whole.folder / NAME
    written = file.stat().st_mtime_ns
    again = run_of(pictures, "whole", shortcut=True, block_size=40, resume=True)
    assert again.summary == whole.summary
    assert file.stat().st_mtime_ns == written


def test_without_a_budget_none_are_looked_for(pictures: Path) -> None:
    run = run_of(pictures, "none", shortcut=True, budget=0.0, limit=20)
    assert run.summary is not None
    assert run.summary["shortcuts"] is None


def images_to_go_on(run: Run, data: Path) -> int:
    """Return how many images go through the network when a finished run is gone on with."""
    images = 0

    def count(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        nonlocal images
        images += len(args[0]) if isinstance(module, Spots) and not args[0].is_meta else 0

    handle = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        run_of(data, run.folder.name, shortcut=True, resume=True)
    finally:
        handle.remove()
    return images


@pytest.mark.parametrize("labels", [("dark", "light"), ("light",)])
def test_right_answers_are_looked_at_as_long_as_it_may_be_a_shortcut(
    tmp_path: Path, labels: Sequence[str]
) -> None:
    """Green spots in one place, some under other names: right answers show what the errors show."""
    chance = np.random.default_rng(0)
    for label in CLASSES:
        (tmp_path / "data" / label).mkdir(parents=True)
    for label, count in [("spotted", 60), *((name, 8) for name in labels)]:
        for k in range(count):
            pixels = np.array(picture("spotted", None, False, chance))
            pixels[:12, :12] = np.array(GREEN) + chance.integers(-20, 25, 3)
            Image.fromarray(pixels).save(tmp_path / f"data/{label}/{k}.png")
    run = run_of(tmp_path / "data", "run", shortcut=True)
    assert run.summary is not None
    assert run.summary["shortcuts"]["examined"] > 0
    assert run.summary["shortcuts"]["found"] == []
    known = images_to_go_on(run, tmp_path / "data")
    (run.folder / NAME).unlink()
    passes = images_to_go_on(run, tmp_path / "data") - known
    assert len(run.summary["error_groups"]) == 1
    if len(labels) < 2:  # a shortcut shows in errors of two classes
        assert passes == 0
    else:  # twenty of the 48 suffice: one pass for each to find its rival, and one for its map
        assert 2 * 20 <= passes < 2 * 48


def test_an_input_is_decoded_once_while_there_is_room(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def decode(item: Any) -> Any:
        decoded.append(item.id)
        return SimpleNamespace(values=np.full((3, 2, 2), item.id, dtype=np.float32))

    model = SimpleNamespace(device="cpu", dtype=torch.float32)
    work: Any = SimpleNamespace(manifest=run.manifest, decode=decode, model=model)
    inputs = RunInputs(run, work)
    for k in (4, 2, 4, 2):
        values = inputs.values(k)
        assert values is not None
        assert values.unique().tolist() == [float(inputs.ids[k])]
    assert decoded == [4, 2]
    # Room for one: each displaces the other.
    monkeypatch.setattr(correct_images, "_KEPT", 50)
    small, decoded[:] = RunInputs(run, work), []
    for k in (4, 4, 2, 4):
        small.values(k)
    assert decoded == [4, 2, 4]
