"""The engine of one machine keeps what an engine promises."""

from __future__ import annotations

from typing import Any, ClassVar

from cvx_engine.testing.conformance import EngineConformance


class TestLocal(EngineConformance):
    component = "local"
    parameters: ClassVar[dict[str, Any]] = {"workers": 2}
