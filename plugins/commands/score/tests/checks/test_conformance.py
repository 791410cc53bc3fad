"""The randomization check against the contract of checks."""

from __future__ import annotations

from cvx_core.testing.conformance import CheckConformance


class TestRandomization(CheckConformance):
    component = "randomization"
