"""Labels that are wrong are suspected, and answers that are wrong are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cvx_diagnose import Run, diagnose
from cvx_diagnose.analysis import labeled_rows as labelled
from cvx_diagnose.analysis.label_issues import search as suspects
from cvx_diagnose.analysis.label_issues.judge import DOUBTED, assign_folds, judge_labels
from cvx_diagnose.analysis.label_issues.label_quality import wrong_label_posterior
from cvx_diagnose.analysis.label_issues.search import (
    find_label_conflicts,
    find_label_issues,
    neighbor_agreement,
    typicality,
)
from cvx_diagnose.analysis.labeled_rows import LabeledRows
from cvx_engine.local import Local
from torch import nn

from cvx_core import VisionModel
from cvx_core.testing.models import CLASSES


def agreement(features: np.ndarray, labels: np.ndarray, at: list[int]) -> np.ndarray:
    """Return the agreement of some images with all in one piece."""
    whole = slice(0, len(features)), features
    return neighbor_agreement([whole], features[at], labels, np.array(at))


def test_a_label_is_wrong_with_the_probability_of_bayes() -> None:
    # A fifth of 100 labels is certainly wrong, and the others are right: the share is found.
    given = np.array([1e-12] * 20 + [1.0] * 80)
    wrong = wrong_label_posterior(given, 5)
    assert wrong == pytest.approx([1.0] * 20 + [0.0] * 80, abs=1e-6)
    # With the share e = 0.2 of wrong labels, spread over four other classes, and p = 0.1:
    # 0.05 x 0.9 against 0.8 x 0.1 is 0.36. One label hardly moves the share.
    [doubt] = wrong_label_posterior(np.array([*given] * 100 + [0.1]), 5)[-1:]
    assert doubt == pytest.approx(0.045 / (0.045 + 0.08), rel=1e-3)


def test_copies_of_a_file_are_in_one_fold_and_classes_are_spread_evenly() -> None:
    labels = np.arange(200) % 4
    files = [f"file {k}" for k in range(100)] * 2
    folds = assign_folds(files, labels)
    assert (folds[:100] == folds[100:]).all()
    assert np.bincount(folds, minlength=5).min() >= 32
    order = np.random.default_rng(0).permutation(200)
    assert (assign_folds([files[k] for k in order], labels[order]) == folds[order]).all()


def test_an_image_far_from_its_likely_class_is_not_typical_of_it() -> None:
    reference = np.random.default_rng(0).normal(size=(99, 4))
    shares = typicality(np.array([[0.0] * 4, [9.0] * 4]), reference)
    assert shares[0] > 0.5
    # None of 99 lies as far out.
    assert shares[1] == pytest.approx(1 / 100)
    assert np.isnan(typicality(np.ones((1, 4)), reference[:19])).tolist() == [True]


def test_a_label_that_all_images_around_have_is_no_wrong_label() -> None:
    generator = np.random.default_rng(0)
    true = np.repeat([0, 1], 15)
    features = generator.normal(size=(30, 6)) + 30 * np.eye(2, 6)[true]
    labels = true.copy()
    labels[3] = 1
    # All but one of the fifteen around it are called otherwise, and none of those around number 20.
    assert agreement(features, labels, [3, 20]).tolist() == [0, 1]


def test_of_a_small_class_as_many_neighbours_count_as_it_has_others() -> None:
    features = np.array([[1, 0], [1, 0.1], [1, 0.2], [0.9, 1], [0.5, 1], [0, 1]])
    labels = np.array([0, 0, 0, 1, 1, 2])
    # Two of the first class's own, one of the second's own, and none of a class of one.
    assert agreement(features, labels, [0, 4, 5]).tolist() == [1, 1, 0]


class Heaps(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Pictures of three colours, every eighth under the name of another; one can't be read."""

    def __len__(self) -> int:
        return 301

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        if i == 7:
            raise OSError("It is broken.")
        noise = 0.9 * torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(i))
        shown = noise + 2 * torch.eye(3)[i % 3][:, None, None]
        return shown, (i + (i % 8 == 0)) % 3


@pytest.fixture
def heaps(tmp_path: Path) -> Run:
    net = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Flatten(), nn.Linear(48, 3, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(3)[:, :, None, None])
        net[2].weight.copy_(torch.eye(3).repeat_interleave(16, 1) / 8)
    model = VisionModel(net.eval(), classes=("red", "green", "blue"))
    folder = tmp_path / "run"
    return diagnose(model, Heaps(), folder, budget=0, block_size=32, engine=Local(workers=1))


@pytest.mark.parametrize("trained_on", [False, True])
def test_the_same_labels_are_suspected_a_part_at_a_time(
    heaps: Run, monkeypatch: pytest.MonkeyPatch, trained_on: bool
) -> None:
    whole = find_label_issues(heaps, trained_on=trained_on)
    ids = {one["id"] for one in whole}
    flipped = {i for i in range(301) if i % 8 == 0}
    assert len(ids & flipped) >= 0.9 * len(flipped)
    assert len(ids & flipped) >= 0.9 * len(ids)
    for one in whole:
        assert one["label"] == (one["id"] + (one["id"] % 8 == 0)) % 3
        if one["id"] in flipped:
            assert one["suggested"] == one["id"] % 3
        assert one["doubt"] > DOUBTED
    doubts = [one["doubt"] for one in whole]
    assert doubts == sorted(doubts, reverse=True)
    for module, name in ((labelled, "_TOGETHER"), (suspects, "_AT_ONCE"), (suspects, "_ROWS")):
        monkeypatch.setattr(module, name, 8)
    parts = find_label_issues(heaps, trained_on=trained_on)
    assert [one["id"] for one in parts] == [one["id"] for one in whole]
    assert [one["doubt"] for one in parts] == pytest.approx(doubts)


def test_an_image_that_is_not_typical_is_no_label_issue(
    heaps: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "MIN_TYPICALITY", 2.0)
    assert find_label_issues(heaps) == []


def test_a_label_that_neighbors_share_is_no_label_issue(
    heaps: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "MIN_AGREEMENT", -1.0)
    assert find_label_issues(heaps) == []


def test_nobody_is_accused_in_or_for_a_class_with_few_images(heaps: Run) -> None:
    inputs = LabeledRows(heaps)
    few = np.flatnonzero(inputs.labels == 2)[9:]
    inputs.labels[few] = 0
    judgement = judge_labels(inputs, 3)
    assert judgement is not None
    assert (judgement.wrong[inputs.labels == 2] == 0).all()
    assert not (judgement.suggested[inputs.labels != 2] == 2).any()
    inputs.labels[:] = 0
    assert judge_labels(inputs, 3) is None


def test_copies_with_different_labels_are_listed(
    model: VisionModel, tree: Callable[..., Path], tmp_path: Path
) -> None:
    data = tree(2)
    copied = data / CLASSES[1] / "copy.png"
    copied.write_bytes((data / CLASSES[0] / "0.png").read_bytes())
    (data / CLASSES[0] / "same.png").write_bytes((data / CLASSES[0] / "1.png").read_bytes())
    run = diagnose(model, data, tmp_path / "run", budget=0, engine=Local(workers=1))
    [conflict] = find_label_conflicts(run)
    assert conflict["labels"] == [0, 1]
    assert conflict["paths"] == [f"{CLASSES[0]}/0.png", f"{CLASSES[1]}/copy.png"]
    assert run.summary is not None
    assert run.summary["label_issues"]["conflicts"] == [conflict]
    assert "1 file occurs several times with different labels" in str(run.summary["advice"])
