"""Pytest plugin: the option ``--cvx-component``, and a summary of the conformance checks.

Every run of pytest imports it where cvx is installed, so that it imports little.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

requested: list[str] = []
"""Components that the command line names; read when their test module is collected."""

_CLASSES = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("cvx")
    group.addoption(
        "--cvx-component",
        action="append",
        default=[],
        metavar="NAME",
        help="With --pyargs cvx_core.testing: test the conformance of this component; "
        "KIND:NAME where several kinds have the name. May be repeated.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Keep what the option names, and prepare the summary."""
    requested[:] = config.getoption("--cvx-component")
    config.stash[_CLASSES] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note which tests are conformance checks, and of what."""
    for item in items:
        cls: Any = getattr(item, "cls", None)
        if getattr(cls, "component", "") and hasattr(cls, "expected_failures"):
            config.stash[_CLASSES][item.nodeid] = f"{cls.kind} {cls.component}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print for each component how many checks passed, what failed as expected, and the time."""
    classes = config.stash.get(_CLASSES, {})
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    seconds: dict[str, float] = defaultdict(float)
    expected: dict[str, list[str]] = defaultdict(list)
    for outcome in ("passed", "failed", "error", "skipped", "xfailed"):
        for report in terminalreporter.stats.get(outcome, ()):
            name = classes.get(getattr(report, "nodeid", ""))
            if name is None:
                continue
            counts[name][outcome] += 1
            if outcome == "xfailed":
                check = report.nodeid.rpartition("::")[2]
                reason = getattr(report, "wasxfail", "").removeprefix("reason: ")
                expected[name].append(f"{check}: {reason}")
    for reports in terminalreporter.stats.values():
        for report in reports:
            name = classes.get(getattr(report, "nodeid", ""))
            if name is not None:
                seconds[name] += getattr(report, "duration", 0.0)
    if counts:
        terminalreporter.section("conformance of cvx components")
    for name, found in sorted(counts.items()):
        parts = ", ".join(f"{count} {outcome}" for outcome, count in found.items())
        terminalreporter.line(f"{name}: {parts} in {seconds[name]:.1f} s")
        for line in expected[name]:
            terminalreporter.line(f"  expected failure: {line}")
