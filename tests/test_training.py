"""Explanations during training: the training stays bit-identical, and the maps are of the weights
of their epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cvx_core as cvx

EPOCHS = 3
Explain = Callable[[cvx.VisionModel, Tensor, list[int]], None]


def network() -> nn.Module:
    """A network whose training uses everything that an explanation could disturb."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout(0.3),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


@dataclass
class Run:
    """What a training leaves behind."""

    losses: list[float] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    random: Tensor | None = None


def train(explain: Explain | None) -> Run:
    """Train with shuffled batches, momentum and accumulated gradients."""
    torch.manual_seed(0)
    net, run = network(), Run()
    images, labels = torch.rand(24, 3, 16, 16), torch.arange(24) % 3
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    model = cvx.VisionModel(net)
    for _ in range(EPOCHS):
        for step, batch in enumerate(torch.randperm(24).split(6)):
            loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
            loss.backward()
            run.losses.append(loss.item())
            if explain is not None and step == 2:  # gradients are waiting for the step
                explain(model, images[:4], labels[:4].tolist())
            if step % 2:
                optimizer.step()
                optimizer.zero_grad()
        assert net.training
    run.tensors = {name: value.clone() for name, value in net.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        run.tensors |= {f"{index}.{key}": value.clone() for key, value in state.items()}
    run.random = torch.get_rng_state()
    return run


@pytest.mark.parametrize(
    "explainer", ["grad-cam", "activation-error", "gradient-error", "smoothgrad", "score-cam"]
)
def test_training_is_bit_identical_with_explanations(explainer: str) -> None:
    seen = []

    def explain(model: cvx.VisionModel, images: Tensor, labels: list[int]) -> None:
        seen.extend(cvx.explain(model, images, explainer, label=labels))

    plain, explained = train(None), train(explain)
    assert len(seen) == 4 * EPOCHS
    assert explained.losses == plain.losses
    assert explained.tensors.keys() == plain.tensors.keys()
    for name, value in plain.tensors.items():
        assert torch.equal(explained.tensors[name], value), name
    assert plain.random is not None
    assert explained.random is not None
    assert torch.equal(explained.random, plain.random)


def test_the_maps_are_those_of_the_weights_of_their_epoch() -> None:
    sums: list[tuple[float, float]] = []

    def explain(model: cvx.VisionModel, images: Tensor, labels: list[int]) -> None:
        def total(one: Any) -> float:
            [found] = cvx.explain(one, images[:1], "activation-error", cvx.ClassScore(0))
            return float(found.values.sum())

        sums.append((total(model), total(cvx.VisionModel(model.module))))

    train(explain)
    assert all(kept == fresh for kept, fresh in sums)
    assert len({kept for kept, _ in sums}) == EPOCHS
