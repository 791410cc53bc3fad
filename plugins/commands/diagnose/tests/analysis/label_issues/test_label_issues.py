"""Labels that are wrong are suspected, and answers that are wrong are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cvx_diagnose import diagnose
from cvx_diagnose.analysis import labeled_rows as labelled
from cvx_diagnose.analysis.label_issues import search as suspects
from cvx_diagnose.analysis.label_issues.label_quality import (
    class_thresholds,
    exceeds_thresholds,
    label_doubt,
    out_of_fold_probabilities,
    softmax,
)
from cvx_diagnose.analysis.label_issues.search import (
    MIN_AGREEMENT,
    MIN_TYPICALITY,
    find_label_issues,
    neighbor_agreement,
    typicality,
)
from cvx_engine.local import Local
from sklearn.metrics import roc_auc_score
from torch import nn

from cvx_core import UsageError, VisionModel


def label_issue_mask(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    given = p[np.arange(len(labels)), labels]
    return exceeds_thresholds(p, labels, class_thresholds(given, labels, p.shape[1]))


def agreement(features: np.ndarray, labels: np.ndarray, at: list[int]) -> np.ndarray:
    """Return the agreement of some images with all in one piece."""
    whole = slice(0, len(features)), features
    return neighbor_agreement([whole], features[at], labels, np.array(at))


def test_a_label_is_suspected_if_another_class_reaches_its_threshold() -> None:
    # Five times each, since a mean over few examples is none to go by.
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7], [0.7, 0.3]] * 5)
    labels = np.array([0, 0, 1, 1, 1] * 5)
    # Thresholds: (0.9 + 0.6) / 2 = 0.75 and (0.8 + 0.7 + 0.3) / 3 = 0.6. The last one's 0.7 for
    # class 0 is below 0.75.
    assert label_issue_mask(p, labels).tolist() == [False] * 25
    p[4::5] = 0.8, 0.2
    # Now class 0 is reached: 0.8 against 0.75.
    assert label_issue_mask(p, labels).tolist() == ([False] * 4 + [True]) * 5


def test_a_class_of_one_example_can_be_what_a_wrong_label_is_taken_for() -> None:
    # Its own example is surer than the one with the wrong label; the mean over all is 0.584.
    p = np.array([[0.97, 0.02, 0.01], [0.94, 0.05, 0.01], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]])
    assert label_issue_mask(p, np.array([0, 1, 1, 2])).tolist() == [False, True, False, False]


def test_a_label_that_the_answer_agrees_with_is_not_suspected() -> None:
    # The second class is reached with 0.4 and the first, likelier, is not: its mean is 0.75.
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.6, 0.4], *[[0.6, 0.4]] * 5])
    assert label_issue_mask(p, np.array([0] * 5 + [1] * 5))[4] == np.False_


def test_doubt_is_the_normalised_margin() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.9, 0.0]])
    # (1 + 0.3 - 0.5) / 2 and (1 + 0.9 - 0.1) / 2
    assert label_doubt(p, np.array([0, 0])) == pytest.approx([0.4, 0.9])


def test_flipped_labels_are_the_most_doubtful_out_of_fold() -> None:
    generator = np.random.default_rng(0)
    true = np.repeat(np.arange(4), 60)
    features = generator.normal(size=(240, 8)) + 6 * np.eye(4, 8)[true]
    flipped = generator.permutation(240)[:24]
    labels = true.copy()
    labels[flipped] = (labels[flipped] + 1) % 4
    p = out_of_fold_probabilities(features, labels, 4)
    is_flipped = np.isin(np.arange(240), flipped)
    # Heaps six spreads apart overlap by a thousandth; a memory of the labels would give 0.5.
    assert roc_auc_score(is_flipped, label_doubt(p, labels)) > 0.99
    assert (label_issue_mask(p, labels) == is_flipped).mean() > 0.98


def test_a_class_with_few_examples_is_never_suspected() -> None:
    features = np.random.default_rng(0).normal(size=(22, 3))
    labels = np.array([0] * 10 + [1] * 10 + [2] * 2)
    p = out_of_fold_probabilities(features, labels, 3)
    assert p[20:].tolist() == [[0, 0, 1], [0, 0, 1]]
    with pytest.raises(UsageError, match="two classes with 5 examples, got 1"):
        out_of_fold_probabilities(features[:10], labels[:10], 3)


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


@pytest.mark.parametrize("trained_on", [False, True])
def test_a_part_at_a_time_the_same_labels_are_suspected_as_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_on: bool
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Flatten(), nn.Linear(48, 3, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(3)[:, :, None, None])
        net[2].weight.copy_(torch.eye(3).repeat_interleave(16, 1) / 8)
    model = VisionModel(net.eval(), classes=("red", "green", "blue"))
    folder = tmp_path / "run"
    run = diagnose(model, Heaps(), folder, budget=0, block_size=32, engine=Local(workers=1))
    table = run.table(["id", "label", "logits", "features"], status="ok")
    labels, ids = table["label"].to_numpy().astype(int), table["id"].to_numpy()
    features = run.numbers(table, "features")
    own = softmax(run.numbers(table, "logits"))
    p = out_of_fold_probabilities(features, labels, 3) if trained_on else own
    likely = p.argmax(1)
    expected = {}
    for i in np.flatnonzero(label_issue_mask(p, labels)):
        like = features[(likely == likely[i]) & (labels == likely[i])]
        [typical] = typicality(features[[i]], like)
        if typical >= MIN_TYPICALITY and agreement(features, labels, [int(i)])[0] < MIN_AGREEMENT:
            expected[int(ids[i])] = (likely[i], label_doubt(p, labels)[i], typical)
    assert len(expected) > 20
    for module, name in ((labelled, "_TOGETHER"), (suspects, "_AT_ONCE"), (suspects, "_ROWS")):
        monkeypatch.setattr(module, name, 8)
    found = find_label_issues(run, trained_on=trained_on)
    assert {
        one["id"]: (one["suggested"], one["doubt"], one["typicality"]) for one in found
    } == expected
    doubts = [one["doubt"] for one in found]
    assert doubts == sorted(doubts, reverse=True)
    by_id = {int(number): int(label) for number, label in zip(ids, labels, strict=True)}
    assert all(by_id[one["id"]] == one["label"] for one in found)
    at = {int(number): k for k, number in enumerate(ids)}
    for one in found:
        assert one["probability"] == p[at[one["id"]], one["suggested"]]
