"""Conformance tests, which authors of plugins subclass.

    from cvx_core.testing.conformance import ExplainerConformance

    class TestMyMethod(ExplainerConformance):
        component = "my-method"

There is a class for explainers, renderers, model sources, tasks, commands and checks; each method
is one check.
`parameters` are handed to the component; a check that can't hold for a good reason goes into
`expected_failures` by its name, with the reason.
"""

from __future__ import annotations

import sys

import pytest

_KINDS = ("base", "checks", "commands", "explainers", "renderers", "sources", "tasks")
_CHECKS = [f"cvx_core.testing.kits.{name}" for name in _KINDS]
# Before the imports below, so that a failing check shows the values it compared.
pytest.register_assert_rewrite(*(name for name in _CHECKS if name not in sys.modules))

from cvx_core.testing.kits.checks import CheckConformance  # noqa: E402
from cvx_core.testing.kits.commands import CommandConformance  # noqa: E402
from cvx_core.testing.kits.explainers import ExplainerConformance  # noqa: E402
from cvx_core.testing.kits.renderers import RendererConformance  # noqa: E402
from cvx_core.testing.kits.sources import ModelSourceConformance  # noqa: E402
from cvx_core.testing.kits.tasks import TaskConformance  # noqa: E402

__all__ = [
    "CheckConformance",
    "CommandConformance",
    "ExplainerConformance",
    "ModelSourceConformance",
    "RendererConformance",
    "TaskConformance",
]
