"""Switches and optional packages in the environment."""

from __future__ import annotations

import json

import pytest

from cvx_core._util.environment import optional_module, switched_on


def test_a_package_that_is_not_installed_is_none() -> None:
    assert optional_module("json") is json
    assert optional_module("no_package_of_this_name") is None


@pytest.mark.parametrize(("value", "on"), [("1", True), (" No ", False), ("0", False), ("", False)])
def test_switches(value: str, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVX_SWITCH", value)
    assert switched_on("CVX_SWITCH") is on
    monkeypatch.delenv("CVX_SWITCH")
    assert not switched_on("CVX_SWITCH")
