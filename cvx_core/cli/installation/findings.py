"""Findings about the installation: versions, devices, plugins, and what is missing."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version

import click
from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement

from cvx_core._util.version import __version__
from cvx_core.cli.kit.configuration import Configuration
from cvx_core.errors import CvxError, install_command
from cvx_core.plugins.component_registry import PROGRAM, Registry
from cvx_core.plugins.isolation import describe_error

DISTRIBUTION = "cvx-core"
NEEDED = ("explainer", "renderer", "model source")
"""Kinds without which no image can be explained."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    area
        What it is about: ``"versions"``, ``"devices"``, ``"plugins"``, ``"extras"``,
        ``"environment"`` or ``"configuration"``.
    name, value
        What was looked at, and what was found.
    problem
        Whether something does not work.
    hint
        How to fix it, or how to get what is missing.
    """

    area: str
    name: str
    value: str
    problem: bool = False
    hint: str = ""


def version_findings(distributions: Iterable[str]) -> Iterator[Finding]:
    """Yield the versions of Python, cvx and all requirements of distributions.

    Parameters
    ----------
    distributions
        Names of installed distributions. A requirement that is missing or has the wrong version is
        a problem.
    """
    yield Finding("versions", "python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("versions", "platform", platform.platform())
    yield Finding("versions", DISTRIBUTION, __version__)
    wanted: dict[str, list[tuple[str, Requirement]]] = {}
    for distribution in sorted(set(distributions)):
        for requirement in _requirements(distribution):
            if requirement.name != DISTRIBUTION:
                wanted.setdefault(requirement.name, []).append((distribution, requirement))
    for name, several in sorted(wanted.items()):
        found = _version(name)
        unmet = [
            (owner, one)
            for owner, one in several
            if not found or not one.specifier.contains(found, prereleases=True)
        ]
        if not unmet:
            yield Finding("versions", name, found)
            continue
        needs = ", ".join(f"{owner} requires {one}" for owner, one in unmet)
        hint = install_command(*sorted({str(one) for _, one in unmet}))
        yield Finding("versions", name, f"{found or 'not installed'}; {needs}", True, hint)


def device_findings() -> Iterator[Finding]:
    """Yield the devices that PyTorch can use, each after a computation on it."""
    try:
        import torch
    # Whatever a broken installation raises is what the reader has to know.
    except Exception as error:
        reason = describe_error(error)
        yield Finding("devices", "torch", f"import failed: {reason}", True, "Reinstall torch.")
        return
    threads = torch.get_num_threads()
    devices = {"cpu": f"{threads} thread{'s'[: threads > 1]}"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 1024**3
        devices[f"cuda:{index}"] = f"{properties.name}, {memory:.0f} GiB"
    if torch.backends.mps.is_available():
        devices["mps"] = "Apple GPU"
    for name, what in devices.items():
        try:
            works = float(torch.ones(2, 2, device=name).sum()) == 4
            reason = "wrong result"
        # A driver may raise anything.
        except Exception as error:
            works, reason = False, describe_error(error)
        hint = "" if works else "Check the driver, or pass --device cpu."
        yield Finding("devices", name, what if works else f"{what}: {reason}", not works, hint)
    if not torch.cuda.is_available() and torch.version.cuda:
        yield Finding("devices", "cuda", f"torch has CUDA {torch.version.cuda}, but finds no GPU")


def plugin_findings(found: Registry) -> Iterator[Finding]:
    """Yield the number of components of each kind, and plugins and components that fail.

    Parameters
    ----------
    found
        The registry. Each of its components is imported.
    """
    for kind in found.kinds:
        offers = found.offers(kind)
        missing = kind in NEEDED and not offers
        hint = install_command(f"{DISTRIBUTION}[standard]") if missing else ""
        yield Finding("plugins", kind, f"{len(offers)} installed", missing, hint)
        for offer in offers:
            try:
                offer.component.load()
            except CvxError as error:
                reason = " ".join(error.message.split())
                name = f"{kind} {offer.component.name}"
                yield Finding("plugins", name, reason, True, _reinstall(offer.owner))
    for failure in found.failures:
        yield Finding("plugins", failure.owner, failure.reason, True, _reinstall(failure.owner))
    for owner, hook in found.unknown_hooks:
        reason = f"no installed plugin defines its hook {hook}"
        yield Finding("plugins", owner, reason, True, "Install the plugin that defines the hook.")
    for owner in found.incompatible:
        hint = "Install a version of the plugin for this version of cvx."
        yield Finding("plugins", owner, "made for another version of cvx", True, hint)
    for owner in found.disabled:
        yield Finding("plugins", owner, "disabled by CVX_DISABLE_PLUGINS")


def extra_findings() -> Iterator[Finding]:
    """Yield which optional parts of cvx are installed, and how to get the others."""
    try:
        extras = metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return
    for extra in extras:
        wanted = list(_closure(Requirement(f"{DISTRIBUTION}[{extra}]"), set()))
        missing = sorted({name for name in wanted if not _version(name)})
        value = "installed"
        if missing:
            value = f"{len(missing)} of {len(set(wanted))} packages missing: " + ", ".join(missing)
        hint = install_command(f"{DISTRIBUTION}[{extra}]") if missing else ""
        yield Finding("extras", extra, value, False, hint)


def environment_findings() -> Iterator[Finding]:
    """Yield the switches of cvx that are set in the environment."""
    for name in sorted(os.environ):
        if name.startswith("CVX_"):
            yield Finding("environment", name, os.environ[name])


def configuration_findings(ctx: click.Context) -> Iterator[Finding]:
    """Yield the options in the configuration file, and what is wrong with it.

    Parameters
    ----------
    ctx
        Context of the whole command line.
    """
    area, name, commands = "configuration", "file", ctx.command
    if not isinstance(commands, click.Group):
        return
    try:
        given = Configuration.read()
        given.check_commands(commands.list_commands(ctx))
        for name in given.tables:
            command = commands.get_command(ctx, name)
            if command is None:
                continue
            given.defaults(name, command)
            for key, value in given.tables[name].items():
                yield Finding(
                    area, f"{name}.{key}", f"{json.dumps(value, default=str)} ({given.source})"
                )
    except CvxError as error:
        yield Finding(area, name, error.message, True, error.hint)


def distributions_of(found: Registry) -> set[str]:
    """Return cvx and the distributions of all plugins, also of those that failed."""
    owners = [offer.owner for kind in found.kinds for offer in found.offers(kind)]
    owners += [failure.owner for failure in found.failures]
    return {DISTRIBUTION, *(owner.partition(":")[0] for owner in owners if owner != PROGRAM)}


def _reinstall(owner: str) -> str:
    name = owner.partition(":")[0]
    return f"Run 'cvx plugins --verbose' for the traceback, or reinstall {name}."


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _requirements(distribution: str, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """Yield what a distribution requires here, with the requirements of some extras."""
    try:
        texts = requires(distribution) or []
    except PackageNotFoundError:
        return
    for text in texts:
        try:
            one = Requirement(text)
            marker = one.marker
            holds = marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras))
        except (InvalidRequirement, UndefinedEnvironmentName):
            continue  # of another tool's own form; nothing can be said about it
        if holds:
            one.marker = None
            yield one


def _closure(requirement: Requirement, seen: set[str]) -> Iterator[str]:
    """Yield the distributions of a requirement with extras, and of the extras in it."""
    key = str(requirement)
    if key in seen:
        return
    seen.add(key)
    if requirement.name != DISTRIBUTION:
        yield requirement.name
    if not requirement.extras:
        return
    plain = {one.name for one in _requirements(requirement.name)}
    for one in _requirements(requirement.name, requirement.extras):
        if one.name not in plain:
            yield from _closure(one, seen)
