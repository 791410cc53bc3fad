"""Completion of components, models and targets in the shell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps

import click
from click.shell_completion import CompletionItem

from cvx_core.plugins.discovery import registry

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _complete(find: Callable[[str], Iterable[tuple[str, str]]]) -> Complete:
    """Return a completion that offers the names, with summaries, that begin with what is typed."""

    @wraps(find)
    def complete(
        ctx: click.Context,  # noqa: ARG001
        param: click.Parameter,  # noqa: ARG001
        incomplete: str,
    ) -> list[CompletionItem]:
        try:
            found = dict(find(incomplete))
        # A plugin may raise anything, and a traceback would end up in the command line.
        except Exception:
            return []
        names = [name for name in found if name.startswith(incomplete)]
        return [CompletionItem(name, help=found[name]) for name in names]

    return complete


def _components(kind: str) -> Complete:
    def components(typed: str) -> Iterable[tuple[str, str]]:  # noqa: ARG001
        return ((o.component.name, o.component.summary) for o in registry().offers(kind))

    return _complete(components)


@_complete
def complete_models(typed: str) -> Iterable[tuple[str, str]]:
    """Yield the model sources; behind a colon the models of the source."""
    source, colon, _ = typed.partition(":")
    if not colon:
        return ((o.component.name, o.component.summary) for o in registry().offers("model source"))
    from cvx_core.models.sources import list_models

    return ((f"{source}:{entry.name}", entry.summary) for entry in list_models(source))


@_complete
def complete_targets(typed: str) -> Iterable[tuple[str, str]]:  # noqa: ARG001
    """Yield the words by which targets begin."""
    from cvx_core.tasks.catalogue import target_words

    return target_words().items()


complete_explainers = _components("explainer")
complete_renderers = _components("renderer")
