"""Base class of the conformance kits of all kinds of components."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

import pytest

from cvx_core.plugins.component import Component
from cvx_core.plugins.component_registry import PROGRAM, Offer, normal_name
from cvx_core.plugins.discovery import registry
from cvx_core.plugins.hookspecs import GROUP

HEAVY = ("torch", "numpy", "PIL", "matplotlib")


class Conformance:
    """Base of all conformance tests.

    Attributes
    ----------
    component
        Name of the component; ``name@distribution`` where two plugins offer it.
    parameters
        Parameters it is built with.
    expected_failures
        Names of checks that are known to fail, with the reason. One that passes all the same
        fails the test, so that the list stays true.
    """

    component: ClassVar[str] = ""
    parameters: ClassVar[Mapping[str, Any]] = {}
    expected_failures: ClassVar[Mapping[str, str]] = {}
    kind: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _expect_failures(self, request: pytest.FixtureRequest) -> None:
        for name in (request.node.name, request.node.originalname):
            if name in self.expected_failures:
                reason = self.expected_failures[name]
                request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    def test_every_expected_failure_names_a_check(self) -> None:
        """A check that was renamed must not be excused for ever."""
        known = {name for name in dir(self) if name.startswith("test_")}
        assert {name.partition("[")[0] for name in self.expected_failures} <= known

    def test_it_is_offered_once_with_a_summary(self) -> None:
        """The registry has one component of this name, and its listing says what it is."""
        component = self.offer().component
        assert component.summary.strip()
        assert "\n" not in component.summary

    def test_its_plugin_module_is_light(self) -> None:
        """Listing the plugins must not load torch, numpy or a drawing library."""
        offer = self.offer()
        if offer.owner == PROGRAM:
            pytest.skip("registered by a program, not by an installed plugin")
        entry = next(entry for entry in entry_points(group=GROUP) if _owns(entry, offer))
        kind = registry().kinds[self.kind]
        code = (
            "import sys\n"
            f"for name in {HEAVY!r}: sys.modules[name] = None\n"
            f"sys.path[:] = {sys.path!r}\n"
            "from importlib import import_module\n"
            f"plugin = import_module({entry.module!r})\n"
            "from cvx_core.plugins import Kind, Registry, hookimpl\n"
            "found = Registry(strict=True)\n"
            f"found.register(plugin, {offer.owner!r})\n"
            # The kind may be another plugin's.
            "class Kinds:\n"
            f"    cvx_kinds = hookimpl(lambda self: [{kind!r}], specname='cvx_kinds')\n"
            f"if {self.kind!r} not in found.kinds: found.register(Kinds(), 'kinds')\n"
            f"found.find({self.kind!r}, {offer.component.name!r})\n"
        )
        environment = {**os.environ, "CVX_DISABLE_PLUGINS": "*"}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr

    def offer(self) -> Offer:
        """Return the component with its owner."""
        wanted: Component = registry().find(self.kind, self.component)
        return next(o for o in registry().offers(self.kind) if o.component is wanted)


def _owns(entry: EntryPoint, offer: Offer) -> bool:
    name = entry.dist.name if entry.dist is not None else "unknown"
    return f"{normal_name(name)}:{entry.name}" == offer.owner
