"""What was measured with other code is not shown as this code's."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def measuring() -> Any:
    spec = importlib.util.spec_from_file_location(
        "measuring_sanity", Path(__file__).with_name("__main__.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("same", [True, False])
def test_results_are_kept_for_the_code_that_measured_them(
    measuring: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    page, results = tmp_path / "page.md", tmp_path / "results.json"
    page.write_text(f"{measuring.BEGIN}{measuring.END}")
    result = {"verdict": "passes", "correlation": {}, "chance": {}, "class_specific": True}
    code = measuring.digest() if same else "of another day"
    results.write_text(json.dumps({"code": code, "found": {"fish.jpg": {"grad-cam": result}}}))
    monkeypatch.setattr(measuring, "PAGE", page)
    monkeypatch.setattr(measuring, "RESULTS", results)
    monkeypatch.setattr(sys, "argv", ["sanity", "--page"])
    assert measuring.main() == (0 if same else 1)
    assert ("| `grad-cam` |" in page.read_text()) == same
