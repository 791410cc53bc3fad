"""Command ``cvx plugins``: installed components, their packages, and plugins that failed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

from cvx_core._util.text import printable
from cvx_core.cli.kit.console import Settings, only_data, put
from cvx_core.cli.kit.options import json_option
from cvx_core.cli.program import COMMANDS
from cvx_core.plugins.component_registry import PROGRAM, Offer, Registry
from cvx_core.plugins.defaults import BY_KIND
from cvx_core.plugins.discovery import registry, version_of

SCHEMA = "cvx.plugins/1"


@click.command()
@json_option()
@click.option("-v", "--verbose", is_flag=True, help="Show import paths and tracebacks.")
@click.pass_obj
def plugins(settings: Settings, as_json: bool, verbose: bool) -> int:
    """List installed components and plugins that failed to load.

    The defaults of 'cvx explain' come first, marked with a star. If two packages provide
    the same name, NAME@PACKAGE selects one.
    """
    verbose = settings.verbose = settings.verbose or verbose
    with only_data():
        found = registry()
    if as_json:
        put(json.dumps(_document(found), ensure_ascii=True, indent=2))
        return 0
    rows = [
        (
            offer.kind,
            "*" if _is_default(offer) else "",
            _name(offer, found),
            _package(offer),
            offer.component.summary,
        )
        + ((str(offer.component.target),) if verbose else ())
        for offer in _offers(found)
    ]
    put_table(rows)
    if any(_is_default(offer) for offer in _offers(found)):
        put("* default of 'cvx explain'")
    for failure in found.failures:
        put(printable(f"failed: {failure.owner}: {failure.reason}"))
        if verbose:
            for line in failure.traceback().splitlines():
                put("  " + printable(line))
    for offer in found.offers("command"):
        if offer.component.name in COMMANDS:
            command = f"the command {offer.component.name} of {_package(offer)}"
            put(printable(f"hidden by a built-in one: {command}"))
    for owner, hook in found.unknown_hooks:
        put(printable(f"not used: {owner}: no installed plugin defines its hook {hook}"))
    for owner in found.disabled:
        put(printable(f"disabled: {owner}"))
    for owner in found.incompatible:
        put(printable(f"made for another version of cvx: {owner}"))
    return 0


def put_table(rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows with aligned columns, each cell safe to show."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        put("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _offers(found: Registry) -> list[Offer]:
    return [offer for kind in found.kinds for offer in sorted(found.offers(kind), key=_place)]


def _place(offer: Offer) -> int:
    """Return where an offer stands among its kind; sorting leaves the rest as it was."""
    defaults = BY_KIND.get(offer.kind, ())
    name = offer.component.name
    return defaults.index(name) if name in defaults else len(defaults)


def _is_default(offer: Offer) -> bool:
    return offer.component.name in BY_KIND.get(offer.kind, ())


def _name(offer: Offer, found: Registry) -> str:
    name = offer.component.name
    rivals = [other for other in found.offers(offer.kind) if other.component.name == name]
    return name if len(rivals) == 1 else f"{name}@{offer.distribution}"


def _package(offer: Offer) -> str:
    if offer.owner == PROGRAM:
        return PROGRAM
    return f"{offer.distribution} {version_of(offer.distribution)}".strip()


def _document(found: Registry) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "components": [
            {
                "kind": offer.kind,
                "name": offer.component.name,
                "use": _name(offer, found),
                "distribution": offer.distribution,
                "version": version_of(offer.distribution),
                "summary": offer.component.summary,
                "target": str(offer.component.target),
                "default": _is_default(offer),
                "hidden": offer.kind == "command" and offer.component.name in COMMANDS,
            }
            for offer in _offers(found)
        ],
        "failures": [
            {"plugin": failure.owner, "reason": failure.reason, "traceback": failure.traceback()}
            for failure in found.failures
        ],
        "unknown_hooks": [{"plugin": owner, "hook": hook} for owner, hook in found.unknown_hooks],
        "disabled": found.disabled,
        "incompatible": found.incompatible,
    }
