"""Training images that led to errors are traced exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cvx_diagnose import diagnose
from cvx_diagnose.analysis.error_groups.groups import find_error_groups
from cvx_diagnose.analysis.error_groups.influence import find_influential_images
from cvx_diagnose.analysis.label_issues.label_quality import softmax
from cvx_engine.local import Local
from torch import nn

from cvx_core import UsageError, VisionModel

Tree = Callable[..., Path]
QUICK: dict[str, Any] = {"block_size": 64, "budget": 0.0, "engine": Local(workers=1)}


def influence(
    errors: np.ndarray, features: np.ndarray, others: np.ndarray, under: np.ndarray
) -> np.ndarray:
    """Return how a step on each of n images changes the loss of each of m others, (n, m)."""
    return (errors @ others.T) * (features @ under.T)


def test_influence_is_the_product_of_the_gradients_of_the_last_layer() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4).double()
    h = torch.randn(5, 6, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 0])

    def gradient(i: int) -> torch.Tensor:
        loss = F.cross_entropy(layer(h[i : i + 1]), labels[i : i + 1])
        [found] = torch.autograd.grad(loss, [layer.weight])
        return found.flatten()

    gradients = torch.stack([gradient(i) for i in range(5)])
    e = softmax(layer(h).detach().numpy())
    e[np.arange(5), labels.numpy()] -= 1
    found = influence(e, h.numpy(), e[:2], h[:2].numpy())
    assert found == pytest.approx((gradients @ gradients[:2].T).numpy(), abs=1e-12)


def test_culprits_of_a_group_are_those_whose_sum_of_influences_is_lowest(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    run = diagnose(model, tree(5), tmp_path / "run", **QUICK)
    causes = find_error_groups(run)
    found = find_influential_images(run, run, causes)
    table = run.table(["id", "label", "logits", "features"])
    labels = table["label"].to_numpy()
    e = softmax(run.numbers(table, "logits"))
    e[np.arange(len(labels)), labels] -= 1
    h = run.numbers(table, "features").astype(float)
    for group, named in enumerate(found):
        members = causes.ids[causes.groups == group]
        sums = influence(e, h, e[members], h[members]).sum(1)
        worst = [int(i) for i in np.argsort(sums)[:6] if sums[i] < 0]
        assert [one["id"] for one in named] == worst
        assert [one["influence"] for one in named] == pytest.approx(sums[worst].tolist(), rel=1e-6)
    assert any(found)


def test_training_data_run_with_other_weights_are_refused(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    data = tree(2)
    training = diagnose(model, data, tmp_path / "training", **QUICK)
    head: Any = model.module.head
    with torch.no_grad():
        head.bias += 1
    other = VisionModel(
        model.module, preprocess=model.preparer.preprocess, classes=model.classes, name="net"
    )
    with pytest.raises(UsageError, match="other weights"):
        diagnose(other, data, tmp_path / "run", training=training, **QUICK)
