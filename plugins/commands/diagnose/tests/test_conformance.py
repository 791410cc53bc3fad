"""The engine of one machine keeps what an engine promises."""

from __future__ import annotations

from cvx_core.testing.conformance import EngineConformance


class TestLocal(EngineConformance):
    component = "local"
    parameters = {"workers": 2}
