"""Names that ``cvx_core`` doesn't have, which may be functions of commands of plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Environment

CURIOUS = """
import cvx_core
from cvx_core import Component, hookimpl

try:
    cvx_core.nothing
except AttributeError as error:
    said = str(error)

@hookimpl
def cvx_explainers():
    yield Component("grid", "A good one.", "collections:OrderedDict")
"""

ABOUT = """
import json
import cvx_core

try:
    cvx_core.unheard_of
except AttributeError as error:
    found = str(error)
from cvx_core.plugins.discovery import registry
from cvx_curious.plugin import said
print(json.dumps([said, found, registry().names("explainer"), len(registry().failures)]))
"""


def test_a_plugin_that_asks_for_a_missing_name_has_plugins_looked_for_once(
    environment: Environment,
) -> None:
    environment.install("cvx-curious", "cvx_curious", CURIOUS)
    said, found, names, failures = environment.ask(ABOUT)
    assert said == "module 'cvx_core' has no attribute 'nothing'"
    assert found.endswith("'cvx plugins' lists what is installed.")
    assert (names, failures) == (["grid"], 0)
