"""What changed for each class between two runs, and which of it is a regression."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from cvx_diagnose import Run, diagnose
from cvx_diagnose.analysis.metrics.class_changes import paired_change
from cvx_diagnose.analysis.metrics.comparison import compare
from cvx_diagnose.report.text import regression_lines
from cvx_engine.local import Local

from cvx_core import VisionModel
from cvx_core.testing.models import CLASSES

Tree = Callable[..., Path]
QUICK: dict[str, Any] = {"block_size": 256, "budget": 0.0, "engine": Local(workers=1)}


def set_correct(run: Run, correct: list[bool]) -> None:
    [file] = (run.folder / "rows").iterdir()
    table = pq.read_table(file)
    at = table.schema.get_field_index("correct")
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(correct)), file)


@pytest.fixture
def runs(model: VisionModel, tree: Tree, tmp_path: Path) -> tuple[Run, Run]:
    data = tree(20)
    return tuple(diagnose(model, data, tmp_path / name, **QUICK) for name in ("old", "new"))  # type: ignore[return-value]


def test_the_interval_of_a_ratio_is_the_paired_bootstraps() -> None:
    generator = np.random.default_rng(0)
    whole = generator.integers(5, 60, 300).astype(float)
    old = np.stack([np.floor(whole * generator.beta(6, 3, 300)), whole], 1)
    new = np.stack([np.floor(whole * generator.beta(5, 3, 300)), whole + 3], 1)
    found = paired_change(list(map(tuple, old)), list(map(tuple, new)))
    draws = generator.integers(0, 300, (4000, 300))
    ratios = [one[draws].sum(1)[:, 0] / one[draws].sum(1)[:, 1] for one in (old, new)]
    # Quantiles of some thousand draws whose spread is 0.013.
    for key, quantile in (("low", 0.025), ("high", 0.975)):
        assert found[key] == pytest.approx(np.quantile(ratios[1] - ratios[0], quantile), abs=0.004)
    assert found["before"] == pytest.approx(old[:, 0].sum() / old[:, 1].sum())


def test_a_class_that_got_worse_is_named_and_one_that_changed_by_chance_is_not(
    runs: tuple[Run, Run],
) -> None:
    old, new = runs
    labels = old.table(["label"])["label"].to_pylist()
    set_correct(old, [True] * 100)
    # Class 1 loses 12 of 20; class 3 loses 2 and class 4 none.
    lost = {1: 12, 3: 2}
    seen = dict.fromkeys(range(5), 0)
    correct = []
    for label in labels:
        seen[label] += 1
        correct.append(seen[label] > lost.get(label, 0))
    set_correct(new, correct)
    found = compare(new, old)
    assert found["regression"]
    assert found["regressed"] == [1]
    worst = found["classes"][0]
    assert (worst["class"], worst["count"], worst["worse"], worst["better"]) == (1, 20, 12, 0)
    # The sign test: 2 / 2 ** 12, times five classes (Benjamini and Hochberg).
    assert worst["p"] == pytest.approx(5 * 2 / 2**12)
    lines = regression_lines({"comparison": found, "classes": new.plan.classes, "confusions": []})
    assert lines[0].startswith("worse than in old: accuracy went from 100.0 % to 86.0 %")
    assert lines[1].startswith("worse than in old: accuracy of bee went from 100.0 % to 40.0 %")
    back = compare(old, new)
    assert not back["regression"]
    assert back["classes"][-1]["change"] == pytest.approx(0.6)


def test_classes_in_another_order_are_compared_by_name(
    runs: tuple[Run, Run], model: VisionModel, tmp_path: Path
) -> None:
    old, _ = runs
    names = [*reversed(CLASSES), "fox"]
    head: Any = model.module.head
    turned = torch.nn.Linear(head.in_features, 6)
    with torch.no_grad():
        for own, other in ((head.weight, turned.weight), (head.bias, turned.bias)):
            other.copy_(torch.cat([own.flip(0), torch.full_like(own[:1], -1e3)]))
    model.module.head = turned
    same = VisionModel(model.module, preprocess=model.preparer.preprocess, classes=names)
    new = diagnose(same, tmp_path / "data", tmp_path / "turned", compare=old, **QUICK)
    assert new.summary is not None
    found = new.summary["comparison"]
    assert (found["common"], found["relabeled"], found["fixed"], found["broken"]) == (100, 0, 0, 0)
    assert sorted(one["class"] for one in found["classes"]) == [0, 1, 2, 3, 4]
    assert {one["count"] for one in found["classes"]} == {20}


def test_equal_runs_are_no_regression(runs: tuple[Run, Run]) -> None:
    found = compare(*runs)
    assert not found["regression"]
    assert {one["change"] for one in found["classes"]} == {0.0}
