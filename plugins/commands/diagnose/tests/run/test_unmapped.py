"""Errors whose map can't be made: prediction and error count, and the reason is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cvx_diagnose import diagnose
from cvx_diagnose.report.text import summary_lines
from cvx_diagnose.run.inference import row_builder
from cvx_engine.local import Local

from cvx_core import LayerError, VisionModel

QUICK: dict[str, Any] = {"block_size": 8, "budget": 0.0, "engine": Local(workers=1)}


@pytest.mark.parametrize("fails", [1, 10**6])
def test_an_error_without_a_map_stays_in_the_counts(
    fails: int,
    model: VisionModel,
    tree: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = tree(4)
    expected = diagnose(model, data, tmp_path / "mapped", **QUICK)
    first = expected.table(["id"], wrong=True)["id"].to_pylist()[0]
    made = row_builder.error_maps

    def unmappable(model: Any, plan: Any, inputs: Any, wrong: Any) -> Any:
        # Images of more than one are tried one by one.
        if len(wrong) > 1 or fails > 1 or bool((inputs == unmapped).all()):
            raise LayerError("Its class does not depend on the layer.")
        return made(model, plan, inputs, wrong)

    item = expected.manifest.find(first)
    unmapped = model.prepare([data / item.path])[0].tensor[None]
    monkeypatch.setattr(row_builder, "error_maps", unmappable)
    run = diagnose(model, data, tmp_path / "run", **QUICK)
    assert run.summary is not None
    assert expected.summary is not None
    for name in ("counts", "accuracy", "errors", "confusions"):
        assert run.summary[name] == expected.summary[name]
    wrong = run.summary["accuracy"]["total"] - run.summary["accuracy"]["correct"]
    count = 1 if fails == 1 else wrong
    reason = "Its class does not depend on the layer."
    assert run.summary["without_map"] == {
        "count": count,
        "reasons": [{"reason": reason, "count": count}],
    }
    assert f"{count} of the inputs with an error have no map" in "\n".join(
        summary_lines(run.summary)
    )
    rows = [row for row in run.table().to_pylist() if row["margin_map"] is None]
    assert [row["message"] for row in rows if row["correct"] is False] == [f"No map: {reason}"] * (
        count
    )
    assert sum(one["count"] for one in run.summary["error_groups"]) == wrong
    text = (run.folder / "index.html").read_text()
    document = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert document["numbers"]["without_map"]["count"] == count
    assert sum(not one["map"] for one in document["errors"]) == count


def test_two_reasons_are_both_kept() -> None:
    from cvx_diagnose.run.inference.region_tests import say_untested
    from cvx_diagnose.run.rows import NO_MAP

    row = {"id": 0, "message": f"{NO_MAP}flat."}
    say_untested(row, "it crashed.")
    assert row["message"] == "No map: flat. No region was tested: it crashed."
