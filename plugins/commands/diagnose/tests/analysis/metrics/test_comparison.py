"""What changed between two runs, and what a fix changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from cvx_diagnose import Run, diagnose
from cvx_diagnose.analysis.fixes.last_layer import accuracy_change, try_fixes
from cvx_diagnose.analysis.metrics.comparison import compare
from cvx_diagnose.analysis.metrics.statistics import mcnemar
from cvx_diagnose.analysis.metrics.summary import summarize
from cvx_engine.local import Local
from PIL import Image
from scipy.stats import binomtest

from cvx_core import OutputError, UsageError, VisionModel

Tree = Callable[..., Path]
QUICK: dict[str, Any] = {"block_size": 64, "budget": 0.0, "engine": Local(workers=1)}


@pytest.mark.parametrize(("fixed", "broken"), [(8, 2), (0, 0), (3, 3), (1, 40), (0, 6)])
def test_mcnemar_is_the_binomial_test_of_what_changed(fixed: int, broken: int) -> None:
    expected = binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    assert mcnemar(fixed, broken) == pytest.approx(expected, rel=1e-9)


def test_thousands_of_changes_have_a_chance_too() -> None:
    assert mcnemar(2000, 2000) == 1.0
    assert mcnemar(5000, 30) == 0.0


def test_two_runs_tell_what_was_fixed_and_what_broke(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    data = tree(4)
    before = diagnose(model, data, tmp_path / "before", **QUICK)
    head: Any = model.module.head
    with torch.no_grad():
        head.bias += torch.tensor([0.0, 5.0, 0.0, 0.0, 0.0])
    changed_model = VisionModel(
        model.module, preprocess=model.preparer.preprocess, classes=model.classes, name="net"
    )
    after = diagnose(changed_model, data, tmp_path / "after", compare=before, **QUICK)
    old, new = (run.table(["correct"])["correct"].to_pylist() for run in (before, after))
    assert after.summary is not None
    result = after.summary["comparison"]
    assert result["common"] == 20
    assert result["fixed_ids"] == [i for i in range(20) if new[i] and not old[i]]
    assert result["broken_ids"] == [i for i in range(20) if old[i] and not new[i]]
    assert (
        result["fixed"] - result["broken"]
        == sum(new) - sum(old)
        == result["after"] - result["before"]
    )
    assert result["fixed"] > 0
    assert json.loads((tmp_path / "after/summary.json").read_text())["comparison"] == result


def changed_rows(run: Run, **changes: Any) -> None:
    """Write something else into some rows of a finished run."""
    [file] = (run.folder / "rows").iterdir()
    table = pq.read_table(file)
    for name, by_id in changes.items():
        values = [by_id.get(k, one) for k, one in enumerate(table[name].to_pylist())]
        at = table.schema.get_field_index(name)
        table = table.set_column(
            at, table.schema.field(at), pa.array(values, table.schema.field(at).type)
        )
    pq.write_table(table, file)


def test_an_input_that_the_model_fails_on_is_broken_and_one_with_another_label_is_neither(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    data = tree(4)
    before = diagnose(model, data, tmp_path / "before", **QUICK)
    after = diagnose(model, data, tmp_path / "after", **QUICK)
    right = before.table(["correct"])["correct"].to_pylist()
    was_right, was_wrong = right.index(True), right.index(False)
    crashed = right.index(True, was_right + 1)
    labels = before.table(["label"])["label"].to_pylist()
    changed_rows(
        after,
        status={was_right: "model failure", crashed: "crashed"},
        # Of what ends the process nothing is known but its path.
        sha256={crashed: None},
        correct={was_right: None, crashed: None, was_wrong: True},
        label={was_right: None, crashed: None, was_wrong: (labels[was_wrong] + 1) % 5},
    )
    result = compare(after, before)
    assert (result["common"], result["relabeled"]) == (20, 1)
    assert (result["fixed"], result["broken_ids"]) == (0, [was_right, crashed])
    back = compare(before, after)
    assert (back["fixed_ids"], back["broken"]) == ([was_right, crashed], 0)
    numbers = summarize(after)["accuracy"]
    answered = right.count(True) - 2 + 1
    assert (numbers["correct"], numbers["total"], numbers["failed"]) == (answered, 18, 2)
    assert numbers["value_with_failed"] == answered / 20


def test_a_run_without_end_or_of_other_images_is_no_comparison(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    data = tree(3)
    half = diagnose(model, data, tmp_path / "half", shard=(0, 2), **{**QUICK, "block_size": 8})
    with pytest.raises(UsageError, match="not finished"):
        diagnose(model, data, tmp_path / "run", compare=half, **QUICK)
    with pytest.raises(OutputError, match="No run of cvx diagnose"):
        diagnose(model, data, tmp_path / "run2", compare=tmp_path / "nowhere", **QUICK)


def test_the_interval_of_a_change_is_the_paired_bootstraps() -> None:
    generator = np.random.default_rng(1)
    before = generator.random(400) < 0.7
    after = before ^ (generator.random(400) < 0.1)
    found = accuracy_change(before, after)
    assert found["change"] == pytest.approx(after.mean() - before.mean())
    draws = generator.integers(0, 400, (4000, 400))
    naive = (after[draws].astype(float) - before[draws]).mean(1)
    # Quantiles of some thousand draws whose spread is 0.016.
    for key, quantile in (("low", 0.025), ("high", 0.975)):
        assert found[key] == pytest.approx(np.quantile(naive, quantile), abs=0.004)


def test_a_spoilt_last_layer_is_mended_on_what_it_had_not_seen(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    data = tree(1)
    colours = {"ant": (250, 20, 20), "bee": (20, 250, 20), "cat": (20, 20, 250)}
    for name, colour in colours.items():
        for k in range(20):
            shade = tuple(max(0, c - 3 * k) for c in colour)
            Image.new("RGB", (48, 40), shade).save(data / name / f"plain-{k}.png")
    run = diagnose(model, data, tmp_path / "run", try_fix=True, **QUICK)
    assert run.summary is not None
    fix, *_ = run.summary["fixes"]
    assert fix["tried"]
    assert fix["trained_on"] + fix["evaluated_on"] == 60 + 3
    # Three colours are apart in any features; random weights know no class.
    assert fix["after"] > 0.9 > fix["before"]
    assert fix["low"] > 0
    assert fix["p"] < 0.001
    [first, *_] = run.summary["advice"]
    assert first["kind"] == "retrain"


def test_too_few_inputs_try_nothing_and_say_so(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    fix, *_ = try_fixes(diagnose(model, tree(2), tmp_path / "run", **QUICK))
    assert not fix["tried"]
    assert "40 inputs" in fix["note"]


def test_a_run_of_an_older_schema_is_refused_with_both_schemas(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    data = tree(2)
    old = diagnose(model, data, tmp_path / "old", **QUICK)
    file = old.folder / "plan.json"
    file.write_text(file.read_text().replace("cvx.plan/3", "cvx.plan/1"))
    with pytest.raises(OutputError, match=r"cvx\.plan/1.*this version reads 'cvx\.plan/3'"):
        diagnose(model, data, tmp_path / "new", compare=tmp_path / "old", **QUICK)
    with pytest.raises(OutputError, match="another version of cvx"):
        diagnose(model, data, tmp_path / "old", resume=True, **QUICK)
