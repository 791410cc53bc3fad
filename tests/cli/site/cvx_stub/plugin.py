"""What the plugin offers. It prints when imported, as careless plugins do."""

from __future__ import annotations

from collections.abc import Iterator

from cvx_core import Component, hookimpl

print("imported with a bang")


@hookimpl
def cvx_explainers() -> Iterator[Component]:
    yield Component("stub-any", "answers any question", "cvx_stub.work:AnyQuestion")
    yield Component("stub-same", "one map for all questions", "cvx_stub.work:SameMap")
    yield Component("stub-label", "needs the truth", "cvx_stub.work:NeedsLabel")
    yield Component("stub-dark", "fails on dark images", "cvx_stub.work:FailsOnDark")
    yield Component("stub-never", "has no answer", "cvx_stub.work:NoAnswer")
    yield Component("stub-waits", "waits to be interrupted", "cvx_stub.work:Waits")


@hookimpl
def cvx_renderers() -> Iterator[Component]:
    yield Component("stub-map", "one file for each map", "cvx_stub.work:EachMap")
    yield Component("stub-page", "one page for the run", "cvx_stub.work:OnePage")
    yield Component("stub-text", "one text for the run", "cvx_stub.work:OneText")
    yield Component("stub-escapes", "leaves its folder", "cvx_stub.work:Escapes")
    yield Component("stub-breaks", "raises", "cvx_stub.work:Breaks")


@hookimpl
def cvx_commands() -> Iterator[Component]:
    yield Component("stub-command", "A command of a plugin.", "cvx_stub.commands:command")
    yield Component("stub-crash", "A command with a bug.", "cvx_stub.commands:crash")
    yield Component("stub-no-command", "no click command", "cvx_stub.work:AnyQuestion")
