"""What becomes of each input: one row, whatever happens to it."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import resource
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from cvx_diagnose import Run, diagnose
from cvx_diagnose.data.factory import open_source
from cvx_diagnose.run.inference.model_probe import probe_for_source
from cvx_diagnose.run.lock import run_lock
from cvx_engine import Engine, Listener, Work
from cvx_engine.local import Local

from cvx_core import (
    Margin,
    OptionError,
    OutputError,
    Preprocess,
    UsageError,
    VisionModel,
    explain,
    get_explainer,
)
from cvx_core.testing.models import CLASSES

Tree = Callable[..., Path]
Same = Callable[[pa.Table, pa.Table], bool]

KILLS, HANGS = (255, 0, 255), (0, 255, 255)
"""As in conftest.py."""

QUICK: dict[str, Any] = {
    "block_size": 8,
    "batch_size": 4,
    "budget": 0.0,
    "engine": Local(workers=2),
}


def test_a_row_holds_what_the_model_answered(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    data = tree(2)
    table = diagnose(model, data, tmp_path / "run", **QUICK).table()
    assert table["id"].to_pylist() == list(range(10))
    assert set(table["status"].to_pylist()) == {"ok"}
    for row in table.to_pylist():
        [answer] = model.predict([data / row["path"]])
        true = CLASSES.index(row["path"].split("/")[0])
        p = torch.tensor(answer.outputs).softmax(0)
        assert row["label"] == true
        assert row["predicted"] == int(p.argmax())
        assert row["correct"] == (true == int(p.argmax()))
        # float32 in a batch of four, and alone.
        assert row["loss"] == pytest.approx(-float(p[true].log()), abs=1e-4)
        assert row["confidence"] == pytest.approx(float(p.max()), abs=1e-5)
        rest = np.delete(answer.outputs, true).max()
        assert row["margin"] == pytest.approx(rest - answer.outputs[true], abs=1e-4)


def test_features_are_what_the_last_linear_layer_reads(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    run = diagnose(model, tree(2), tmp_path / "run", **QUICK)
    assert (run.plan.features, run.plan.features_exact) == ("head", True)
    table = run.table()
    head: Any = model.module.head
    again = run.numbers(table, "features") @ head.weight.detach().numpy().T
    again += head.bias.detach().numpy()
    # Both were kept in float16, which has three digits.
    assert again == pytest.approx(run.numbers(table, "logits"), abs=0.01)


def test_maps_are_those_of_the_explainer_and_only_errors_have_them(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    data = tree(2)
    run = diagnose(model, data, tmp_path / "run", **QUICK)
    table = run.table()
    right = np.array(table["correct"].to_pylist())
    maps = run.numbers(table, "margin_map")
    assert 0 < right.sum() < len(right)
    assert np.isnan(maps[right]).all()
    for row, found in zip(table.to_pylist(), maps, strict=True):
        if row["correct"]:
            continue
        explainer = get_explainer("activation-error", rule="frozen")
        [map_] = explain(
            model, [data / row["path"]], explainer, Margin(), label=row["path"].split("/")[0]
        )
        assert found == pytest.approx(map_.values, abs=2e-3 * float(np.abs(map_.values).max()))
        assert row["extent"] == pytest.approx(map_.extent)


def test_every_input_has_one_row_that_says_what_became_of_it(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    data = tree(3, a_kills=KILLS, b_hangs=HANGS)
    (data / "bee" / "broken.png").write_bytes(b"\x89PNG no more")
    (data / "cat" / "notes.txt").write_text("no input")
    run = diagnose(model, data, tmp_path / "run", timeout=1.0, **QUICK)
    rows = {row["path"]: row for row in run.table().to_pylist()}
    assert len(rows) == 15 + 3
    odd = {path: row["status"] for path, row in rows.items() if row["status"] != "ok"}
    assert odd == {
        "ant/a_kills.png": "crashed",
        "ant/b_hangs.png": "crashed",
        "bee/broken.png": "bad input",
    }
    assert "SIGKILL" in rows["ant/a_kills.png"]["message"]
    assert "timed out after 1 s" in rows["ant/b_hangs.png"]["message"]
    assert run.summary is not None
    assert run.summary["counts"] == {
        "ok": 15,
        "bad input": 1,
        "model failure": 0,
        "crashed": 2,
    }


class Brittle(torch.nn.Module):
    """Fails on a batch that holds a white image, and runs out of memory beyond two images."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.most = inner, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 2:
            raise torch.OutOfMemoryError("too many")
        self.most = max(self.most, len(x))
        if bool((x.amin((1, 2, 3)) > 2).any()):
            raise ValueError("white!")
        answer: torch.Tensor = self.inner(x)
        return answer


def test_a_model_that_fails_on_an_image_costs_that_image_and_lack_of_memory_none(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    net = Brittle(model.module)
    brittle = VisionModel(net, preprocess=model.preprocess, classes=CLASSES)
    run = diagnose(brittle, tree(2, white=(255, 255, 255)), tmp_path / "run", **QUICK)
    rows = run.table().to_pylist()
    assert [row["path"] for row in rows if row["status"] != "ok"] == ["ant/white.png"]
    assert rows[2]["status"] == "model failure"
    assert "ValueError: white!" in rows[2]["message"]
    assert net.most == 2


class Whites(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Grey tensors, of which the first is white."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, 32, 32), 9.0 if i == 0 else 0.1 * i), i


def test_the_first_of_a_data_set_may_be_the_one_that_the_model_fails_on(
    model: VisionModel, tmp_path: Path
) -> None:
    class Fails(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model.module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if bool((x > 5).any()):
                raise ValueError("white!")
            found: torch.Tensor = self.inner(x)
            return found

    run = diagnose(VisionModel(Fails(), classes=CLASSES), Whites(), tmp_path / "run", **QUICK)
    assert run.table()["status"].to_pylist() == ["model failure", "ok", "ok", "ok"]


def test_a_small_network_is_probed_with_an_image_of_full_contrast(tree: Tree) -> None:
    """Noise of single pixels would be grey at this size, and the fine layer not be found."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()]
    layers += [torch.nn.MaxPool2d(2), torch.nn.Conv2d(4, 4, 3), torch.nn.ReLU()]
    layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3)]
    net = torch.nn.Sequential(*layers)
    spreads: list[float] = []
    net.register_forward_pre_hook(lambda _, given: spreads.append(float(given[0].std())))
    small = VisionModel(net.eval(), preprocess=Preprocess(crop=16, mean=(0.5,) * 3, std=(0.5,) * 3))
    found = probe_for_source(small, open_source(tree(), "classification", None))
    assert spreads[0] > 0.3
    assert found["fine_layer"] == "1"


def test_a_label_that_the_model_lacks_is_a_bad_input(model: VisionModel, tree: Tree) -> None:
    data = tree(1)
    (data / "list.csv").write_text("path,label\nant/0.png,ant\nbee/0.png,wasp\ncat/0.png,\n")
    run = diagnose(model, data / "list.csv", data.parent / "run", **QUICK)
    ant, wasp, unknown = run.table().to_pylist()
    assert (ant["status"], ant["label"]) == ("ok", 0)
    assert wasp["status"] == "bad input"
    assert "no class 'wasp'" in wasp["message"]
    assert (unknown["status"], unknown["label"], unknown["correct"]) == ("ok", None, None)


def test_the_shards_make_what_the_whole_makes(
    model: VisionModel, tree: Tree, tmp_path: Path, same: Same
) -> None:
    data = tree(5)
    whole = diagnose(model, data, tmp_path / "whole", **QUICK)
    for i in (2, 0, 1):
        assert not (tmp_path / "parts/summary.json").exists()
        run = diagnose(model, data, tmp_path / "parts", shard=(i, 3), **QUICK)
    assert same(run.table(), whole.table())
    assert run.summary == whole.summary


def test_a_limit_takes_inputs_of_all_classes_under_their_own_numbers(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    run = diagnose(model, tree(4), tmp_path / "run", limit=5, **QUICK)
    table = run.table(["id", "path"])
    assert table["id"].to_pylist() == [0, 4, 8, 12, 16]
    assert [path.split("/")[0] for path in table["path"].to_pylist()] == list(CLASSES)


@dataclass(frozen=True)
class Stops(Engine):
    """Runs some blocks, and then as if Ctrl-C had been pressed."""

    blocks: int

    def run(self, work: Work[Any, Any, Any], listener: Listener) -> None:
        class Counting(Listener):
            seen = 0

            def done(inner, block: int, rows: Sequence[Any]) -> None:  # noqa: N805
                inner.seen += 1
                inner.stop = inner.seen == self.blocks

        Local(workers=2).run(work, Counting())


# With seven images for each input one error of a block of eight is tested.
@pytest.mark.parametrize("budget", [0.0, 7.0])
def test_a_run_that_was_stopped_goes_on_where_it_was(
    model: VisionModel, tree: Tree, tmp_path: Path, same: Same, budget: float
) -> None:
    data = tree(5)
    quick = {**QUICK, "budget": budget}
    whole = diagnose(model, data, tmp_path / "whole", **quick)
    assert sum(whole.table(["tested"], wrong=True)["tested"].to_pylist()) == (4 if budget else 0)
    # Another process knows nothing of the network yet.
    model = VisionModel(model.module, model.preprocess, CLASSES, name="net")
    begun = diagnose(model, data, tmp_path / "run", **{**quick, "engine": Stops(2)})
    assert (begun.done, begun.pending, begun.summary) == ([0, 1], [2, 3], None)
    seconds = begun.table(["seconds"])["seconds"].to_pylist()
    with pytest.raises(UsageError, match="already contains a run"):
        diagnose(model, data, tmp_path / "run", **QUICK)
    model = VisionModel(model.module, model.preprocess, CLASSES, name="net")
    run = diagnose(model, data, tmp_path / "run", resume=True, **quick)
    assert same(run.table(), whole.table())
    # What was there is not predicted again.
    assert run.table(["seconds"])["seconds"].to_pylist()[: len(seconds)] == seconds


def test_another_plan_is_refused(model: VisionModel, tree: Tree, tmp_path: Path) -> None:
    data = tree(2)
    diagnose(model, data, tmp_path / "run", **QUICK)
    with pytest.raises(UsageError, match="limit was None, now 3"):
        diagnose(model, data, tmp_path / "run", resume=True, limit=3, **QUICK)
    (data / "ant" / "0.png").rename(data / "ant" / "z.png")
    with pytest.raises(UsageError, match="manifest_sha256"):
        diagnose(model, data, tmp_path / "run", resume=True, **QUICK)
    with torch.no_grad():
        model.module.head.bias += 1  # type: ignore[union-attr, operator]
    (data / "ant" / "z.png").rename(data / "ant" / "0.png")
    with pytest.raises(UsageError, match="weights_sha256"):
        diagnose(model, data, tmp_path / "run", resume=True, **QUICK)


def test_two_runs_in_one_folder_are_refused_and_shards_are_not(tmp_path: Path) -> None:
    with run_lock(tmp_path, (0, 1)), pytest.raises(UsageError, match="Another run is using"):
        run_lock(tmp_path, (0, 1)).__enter__()
    with run_lock(tmp_path, (0, 2)):
        with run_lock(tmp_path, (1, 2)):
            pass
        for taken in ((0, 2), (0, 1)):
            with pytest.raises(UsageError, match="Another run is using"):
                run_lock(tmp_path, taken).__enter__()
    with run_lock(tmp_path, (0, 1)):
        pass


def _with_little_disk(model: VisionModel, data: Path, folder: Path, result: Any) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, resource.RLIM_INFINITY))
    try:
        diagnose(model, data, folder, **QUICK)
    except OutputError as error:
        result.put(str(error))


def test_a_full_disk_leaves_what_was_written_and_says_so(
    model: VisionModel, tree: Tree, tmp_path: Path, same: Same
) -> None:
    data = tree(4)
    context = multiprocessing.get_context("fork")
    result = context.Queue()
    child = context.Process(target=_with_little_disk, args=(model, data, tmp_path / "run", result))
    child.start()
    assert "could not be written" in result.get(timeout=60)
    child.join()
    left = [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [name for name in left if name.endswith(".tmp")]
    run = diagnose(model, data, tmp_path / "run", resume=True, **QUICK)
    assert same(run.table(), diagnose(model, data, tmp_path / "whole", **QUICK).table())


@dataclass(frozen=True)
class Forgetful(Engine):
    """Loses a row."""

    def run(self, work: Work[Any, Any, Any], listener: Listener) -> None:
        for block in work.pending():
            items = work.items(block)
            work.commit(block, [work.failed(item, "bad input", "lost") for item in items[1:]])


def test_an_engine_that_loses_a_row_is_found_out(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="Block 0 has 8 inputs, but the engine returned 7 rows"):
        diagnose(model, tree(2), tmp_path / "run", **{**QUICK, "engine": Forgetful()})
    assert Run(tmp_path / "run").done == []


def test_regions_are_tested_in_the_errors_that_cost_most(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    run = diagnose(model, tree(2), tmp_path / "run", **{**QUICK, "block_size": 10, "budget": 10})
    wrong = run.table(
        ["loss", "tested", "regions", "control_change", "message"], wrong=True
    ).to_pylist()
    # 10 inputs, 10 images each, 50 for one error: two errors.
    expected = sorted((row["loss"] for row in wrong), reverse=True)[:2]
    tested = [row for row in wrong if row["tested"]]
    assert sorted((row["loss"] for row in tested), reverse=True) == expected
    assert all(row["control_change"] is not None for row in tested)


def test_impossible_values_are_refused(model: VisionModel, tree: Tree, tmp_path: Path) -> None:
    for odd in ({"limit": 0}, {"shard": (3, 3)}, {"budget": -1.0}, {"timeout": 0.0}):
        with pytest.raises(OptionError):
            diagnose(model, tmp_path, tmp_path / "run", **odd)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="workers"):
        Local(workers=0)
    assert not (tmp_path / "run").exists()


def test_the_summary_is_written_last_and_whole(
    model: VisionModel, tree: Tree, tmp_path: Path
) -> None:
    run = diagnose(model, tree(2), tmp_path / "run", **QUICK)
    written = json.loads((tmp_path / "run/summary.json").read_bytes())
    assert written == run.summary
    assert written["inputs"] == sum(written["counts"].values()) == 10


@dataclass(frozen=True)
class Elsewhere(Engine):
    """Sends the work away as bytes, does the blocks backwards, and what it decoded travels too."""

    def run(self, work: Work[Any, Any, Any], listener: Listener) -> None:
        there = pickle.loads(pickle.dumps(work))
        for block in reversed(there.pending()):
            rows: list[Any] = []
            for batch in there.batches(block):
                decoded = [pickle.loads(pickle.dumps(there.decode(item))) for item in batch]
                rows += there.explain(decoded)
            there.commit(block, pickle.loads(pickle.dumps(rows)))


def test_another_engine_makes_the_same_rows(
    model: VisionModel, tree: Tree, tmp_path: Path, same: Same
) -> None:
    model = VisionModel(model.module, Preprocess(crop=32), CLASSES)
    data = tree(4)
    here = diagnose(model, data, tmp_path / "here", **QUICK)
    there = diagnose(model, data, tmp_path / "there", **{**QUICK, "engine": Elsewhere()})
    assert same(here.table(), there.table())
    assert here.summary == there.summary
