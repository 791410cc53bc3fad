"""The table of methods is the one that the methods give today."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_table_of_methods_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location(
        "methods_table", Path(__file__).with_name("__main__.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text()
    shown = page.partition(module.BEGIN)[2].partition(module.END)[0]
    assert shown.splitlines() == module.table().splitlines(), "run python tests/methods"
