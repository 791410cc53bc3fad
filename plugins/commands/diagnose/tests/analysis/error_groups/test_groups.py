"""Groups of errors are the causes that were planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cvx_diagnose import diagnose
from cvx_diagnose.analysis.error_groups.clustering import group_errors, split_group
from cvx_diagnose.analysis.error_groups.groups import (
    evidence_centers,
    find_error_groups,
    location_of,
)
from cvx_diagnose.analysis.error_groups.names import class_namer, group_name
from cvx_engine.local import Local
from PIL import Image
from planted import several
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score
from torch import nn

from cvx_core import Preprocess, VisionModel


def blobs(*middles: float, each: int = 20) -> np.ndarray:
    """Return points in five dimensions around middles on a line, with unit spread."""
    noise = np.random.default_rng(0).normal(size=(len(middles) * each, 5))
    noise[:, 0] += np.repeat(middles, each)
    return noise


def test_as_many_groups_are_found_as_there_are_heaps() -> None:
    for middles in ((0.0, 12.0), (0.0, 12.0, 24.0)):
        found = split_group(blobs(*middles))
        truth = np.repeat(np.arange(len(middles)), 20)
        assert adjusted_rand_score(truth, found) == 1


def test_one_heap_is_one_group() -> None:
    # Of a Gaussian in five dimensions halves have a silhouette of about 0.15.
    assert set(split_group(blobs(0.0, each=60))) == {0}


def test_errors_with_different_answers_are_in_different_groups() -> None:
    found = group_errors(blobs(0.0, each=40), ["a"] * 20 + ["b"] * 20)
    assert adjusted_rand_score([0] * 20 + [1] * 20, found) == 1


def test_rare_answers_are_put_together() -> None:
    found = group_errors(blobs(0.0, each=9), ["a", "b", "c", "d", "e", "f", "g", "h", "i"])
    assert set(found) == {0}
    # Even if their features differ: two groups would have one name.
    found = group_errors(blobs(0.0, 12.0, each=5), [str(k // 2) for k in range(10)])
    assert set(found) == {0}


def test_more_errors_than_are_clustered_at_once_join_the_nearest() -> None:
    found = split_group(blobs(0.0, 12.0, each=1500))
    assert adjusted_rand_score(np.repeat([0, 1], 1500), found) == 1


class Spots(nn.Module):
    """Sees red and green spots, and takes both alike for "spotted" two layers later."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Conv2d(3, 3, 1)
        self.pool = nn.AvgPool2d(4)
        self.alike = nn.Conv2d(3, 2, 1, bias=False)
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            red, green, light = [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [1 / 3] * 3
            self.see.weight.copy_(torch.tensor([red, green, light]).reshape(3, 3, 1, 1))
            self.see.bias.zero_()
            mixed = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
            self.alike.weight.copy_(mixed.reshape(2, 3, 1, 1))
            self.head.weight.copy_(torch.tensor([[0.0, 1.0], [40.0, 0.0]]))
            self.head.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.alike(self.pool(self.see(x).relu())).relu()
        answer: torch.Tensor = self.head(x.mean((2, 3)))
        return answer


def test_two_causes_of_one_wrong_answer_are_two_groups(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    colours = {"red": (230, 20, 20), "green": (20, 230, 20)}
    (tmp_path / "data/plain").mkdir(parents=True)
    (tmp_path / "data/spotted").mkdir()
    for k in range(12):
        for name, colour in colours.items():
            pixels = np.repeat(generator.integers(90, 160, (32, 32, 1), dtype=np.uint8), 3, 2)
            top, left = generator.integers(0, 24, 2)
            pixels[top : top + 8, left : left + 8] = colour
            Image.fromarray(pixels).save(tmp_path / f"data/plain/{k}-{name}.png")
    model = VisionModel(
        Spots().eval(),
        preprocess=Preprocess(crop=32, mean=(0.0,) * 3, std=(1.0,) * 3),
        classes=("plain", "spotted"),
    )
    run = diagnose(model, tmp_path / "data", tmp_path / "run", budget=0.0, engine=Local(workers=1))
    assert run.plan.fine_layer == "see"
    causes = find_error_groups(run)
    paths = run.table(["path"])["path"].to_pylist()
    truth = ["red" in paths[number] for number in causes.ids.tolist()]
    assert len(truth) == 24
    assert adjusted_rand_score(truth, causes.groups) == 1
    assert [(one["count"], one["cost"]) for one in causes.described] == [(12, 0.5), (12, 0.5)]
    for number, one in enumerate(causes.described):
        assert one["pairs"] == [{"true": 0, "predicted": 1, "count": 12}]
        assert set(one["examples"]) <= set(causes.ids[causes.groups == number].tolist())
    # At the last grid both look the same: no grouping there can tell them apart.
    features = run.numbers(run.table(wrong=True), "error_features")
    deep = AgglomerativeClustering(2).fit_predict(features)
    assert adjusted_rand_score(truth, deep) < 0.3


def test_a_group_knows_where_its_evidence_is() -> None:
    spot = np.zeros((3, 6, 6), dtype=np.float32)
    spot[:, 0, 5] = 1
    places = evidence_centers(spot)
    assert places == [pytest.approx((5.5 / 6, 0.5 / 6))] * 3
    assert location_of(places) == "top right"
    assert location_of([*places, (0.5, 0.5), (0.1, 0.9), (0.1, 0.1)]) is None


def test_a_group_is_named_by_all_its_classes() -> None:
    pairs = [{"true": y, "predicted": q, "count": 1} for y, q in ((0, 1), (0, 2), (3, 1))]
    group = {"type": "misclassified", "pairs": pairs, "location": None}
    assert (
        group_name(group, class_namer(["a", "b", "c", "d"])) == "a and d misclassified as b and c"
    )
    pairs.append({"true": 4, "predicted": 1, "count": 1})
    assert group_name(group, class_namer(None)) == "3 classes misclassified as 1 and 2"
    pairs[0]["count"] = 9
    assert (
        group_name(group, class_namer(["a", "b", "c", "d", "e"]))
        == "mostly a misclassified as b and c"
    )


@pytest.mark.slow
def test_planted_causes_are_recovered(tmp_path: Path) -> None:
    model = several.network()
    planted = several.write(tmp_path / "data", 30, 40)
    run = diagnose(model, tmp_path / "data", tmp_path / "run", budget=0.0, engine=Local(workers=1))
    causes = find_error_groups(run)
    cause = {one.file: one.cause for one in planted}
    paths = run.table(["path"])["path"].to_pylist()
    truth = [cause[paths[number]] for number in causes.ids.tolist()]
    assert len(truth) >= 100
    # The goal that was set: two causes lead to each of two wrong answers.
    assert adjusted_rand_score(truth, causes.groups) >= 0.8


def test_a_missed_region_is_named_after_what_was_there() -> None:
    from cvx_diagnose.analysis.error_groups.names import class_namer, group_name

    name = class_namer(["background", "person", "dog"])

    def named(type_: str, true: int | None, predicted: int | None) -> str:
        pairs = [{"true": true, "predicted": predicted, "count": 3}]
        return group_name({"type": type_, "pairs": pairs, "location": None}, name)

    assert named("false negative", 1, 0) == "false negative: person (answered background)"
    assert named("false positive", 0, 1) == "false positive: background (answered person)"
    assert named("missed", 2, None) == "missed: dog"
    assert named("background", None, 2) == "background: dog"
    assert named("localisation", 2, 2) == "localisation: dog"
