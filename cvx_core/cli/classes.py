"""Command ``cvx classes``: the classes of a model."""

from __future__ import annotations

import json

import click

from cvx_core.cli.installation.plugins import put_table
from cvx_core.cli.kit.completion import complete_models
from cvx_core.cli.kit.console import Settings, only_data, put
from cvx_core.cli.kit.options import json_option, trust_option, weights_option
from cvx_core.errors import UsageError

SCHEMA = "cvx.classes/1"


@click.command()
@click.argument("model", shell_complete=complete_models)
@click.argument("word", required=False)
@weights_option
@trust_option
@json_option()
@click.pass_obj
def classes(
    settings: Settings,  # noqa: ARG001
    model: str,
    word: str | None,
    weights: str | None,
    trust_checkpoint: bool,
    as_json: bool,
) -> int:
    """List the classes of MODEL with their index, or those whose name contains WORD.

    A class is given by its name or its index: --label "tiger cat", or -t 282.
    """
    with only_data():
        from cvx_core.models.sources import load_model
        from cvx_core.tasks.classes import classes_with

        loaded = load_model(model, weights=weights, trust_checkpoint=trust_checkpoint)
        names = loaded.classes
        if names is None:
            raise UsageError(f"{loaded.name} has no class names.", "Refer to classes by index.")
        found = range(len(names)) if word is None else classes_with(word, names)
        if not found:
            raise UsageError(
                f"No class of {loaded.name} contains {word!r}.",
                f"Without a word 'cvx classes' lists all {len(names)}.",
            )
    if as_json:
        rows = [{"index": i, "name": names[i]} for i in found]
        put(json.dumps({"schema": SCHEMA, "model": loaded.name, "classes": rows}, indent=2))
        return 0
    put_table((str(i), names[i]) for i in found)
    return 0
