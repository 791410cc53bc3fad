"""Command ``cvx models``: the models that can be explained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from cvx_core.cli.installation.plugins import put_table
from cvx_core.cli.kit.completion import complete_models
from cvx_core.cli.kit.console import (
    Settings,
    complain,
    installed_plugins,
    only_data,
    put,
    say,
)
from cvx_core.errors import CvxError

if TYPE_CHECKING:
    from cvx_core.models.sources import ModelEntry

SCHEMA = "cvx.models/1"


@click.command()
@click.argument("source", required=False, shell_complete=complete_models)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every model.")
@click.pass_obj
def models(settings: Settings, source: str | None, as_json: bool) -> int:
    """List the models that can be explained.

    Without SOURCE, list the sources. With SOURCE, list its models with task, weights and
    description. For a model in your own code, use 'cvx explain -m file.py:FACTORY'.
    """
    with only_data():
        from cvx_core.models.sources import list_models

        plugins = installed_plugins()
        if source is not None:
            plugins.find("model source", source)
        offers = plugins.offers("model source")
        summaries = {offer.component.name: offer.component.summary for offer in offers}
        found: dict[str, list[ModelEntry]] = {}
        failed: CvxError | None = None
        for name in [source] if source is not None else sorted(summaries):
            try:
                found[name] = list_models(name)
            except CvxError as error:
                complain(error, verbose=settings.verbose, about=name)
                failed = error
    if as_json:
        put(json.dumps({"schema": SCHEMA, "models": _documents(found)}, indent=2))
    elif source is not None:
        entries = found.get(source, [])
        put_table(
            (f"{source}:{entry.name}", entry.task, ", ".join(entry.weights), entry.summary)
            for entry in sorted(entries, key=lambda entry: entry.task)
        )
    else:
        rows = [(name, _count(entries), summaries[name]) for name, entries in found.items()]
        put_table(rows)
        say("'cvx models SOURCE' lists the models of a source.")
    # A source that fails costs itself alone, unless it is all there is to list.
    return failed.exit_code if failed is not None and not found else 0


def _count(entries: list[ModelEntry]) -> str:
    if not entries:
        return "by name"
    return "1 model" if len(entries) == 1 else f"{len(entries)} models"


def _documents(found: dict[str, list[ModelEntry]]) -> list[dict[str, object]]:
    return [
        {
            "name": f"{source}:{entry.name}" if entry.name else source,
            "source": source,
            "task": entry.task,
            "weights": list(entry.weights),
            "summary": entry.summary,
        }
        for source, entries in found.items()
        for entry in entries
    ]
