"""One process for each device: nothing is shared that would have to be."""

from __future__ import annotations

import multiprocessing
from multiprocessing.queues import Queue
from typing import Any

import numpy as np

from cvx_core import ClassScore, explain
from cvx_core.testing import models

METHODS = ["class-attention", "location-attention", "gradient-error", "activation-error"]


def maps(count: int = 2) -> list[Any]:
    found = explain(models.convolutional(), models.inputs(count), METHODS, ClassScore(1))
    return [one.values for one in found]


def _send(answer: Queue[Any]) -> None:
    answer.put(maps())


def test_two_processes_at_once_give_the_maps_that_one_gives() -> None:
    """Spawned, as processes that use a GPU have to be."""
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    children = [spawn.Process(target=_send, args=(answer,)) for _ in range(2)]
    for child in children:
        child.start()
    both = [answer.get(timeout=240) for _ in children]
    for child in children:
        child.join(60)
    expected = maps()
    assert len(expected) == 2 * len(METHODS)
    for found in both:
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other)
