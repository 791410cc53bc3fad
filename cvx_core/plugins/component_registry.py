"""Registry of components: what plugins offer, who offers it, and which plugins failed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from inspect import isroutine
from types import ModuleType
from typing import Any

import pluggy

from cvx_core._util.environment import switched_on
from cvx_core.errors import ConflictError, PluginError, UnknownComponentError, did_you_mean
from cvx_core.plugins.component import Component, Kind
from cvx_core.plugins.hookspecs import KINDS, CvxSpecs, hookspec
from cvx_core.plugins.isolation import message

PROGRAM = "this program"
"""Owner of the components that a program registers itself."""


@dataclass(frozen=True)
class Offer:
    """A component together with the plugin that offers it."""

    kind: str
    component: Component
    owner: str

    @property
    def distribution(self) -> str:
        """Name of the distribution, without the entry point's name."""
        return self.owner.partition(":")[0]


@dataclass(frozen=True)
class Failure:
    """A plugin that could not be used, and why."""

    owner: str
    error: BaseException

    @property
    def reason(self) -> str:
        """One line for listings."""
        return f"{type(self.error).__name__}: {' '.join(message(self.error).split())}"

    def traceback(self) -> str:
        """Return the full traceback as text."""
        import traceback

        return "".join(traceback.format_exception(self.error))


def normal_name(distribution: str) -> str:
    """Write a distribution's name as package indexes do: ``My_Plugin`` becomes ``my-plugin``."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


class _Manager(pluggy.PluginManager):
    """A manager that looks at functions only, since pluggy's look at every name is slow."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        if isinstance(plugin, ModuleType) and not isroutine(vars(plugin).get(name)):
            return None
        return super().parse_hookimpl_opts(plugin, name)

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> Any:
        if name.startswith("__"):
            return None
        return super().parse_hookspec_opts(module_or_class, name)


class Registry:
    """Holds components by kind and name, and resolves a name to one of them.

    Two plugins may offer the same name: both stay listed, and only using the bare name
    raises. ``name@distribution`` picks one.
    """

    def __init__(self, *, strict: bool | None = None) -> None:
        self._manager = _Manager("cvx")
        self._manager.add_hookspecs(CvxSpecs)
        self.kinds: dict[str, Kind] = {kind.name: kind for kind in KINDS}
        self._table: dict[str, dict[str, dict[str, Component]]] = {kind: {} for kind in self.kinds}
        self._owner = PROGRAM
        self._strict = switched_on("CVX_STRICT") if strict is None else strict
        self.failures: list[Failure] = []
        self.incompatible: list[str] = []
        self.disabled: list[str] = []
        self._waiting: list[tuple[object, str, str]] = []
        self._brought: list[tuple[Kind, str]] = []
        for kind in self.kinds:
            self._listen(kind)
        self._manager.hook.cvx_kinds.call_historic(result_callback=self._take_kinds)

    def _hooks(self) -> list[str]:
        return [kind.hook for kind in self.kinds.values()]

    def _listen(self, kind: str) -> None:
        getattr(self._manager.hook, self.kinds[kind].hook).call_historic(
            result_callback=partial(self._take, kind)
        )

    @property
    def unknown_hooks(self) -> list[tuple[str, str]]:
        """Owners of the plugins that implement a hook that nothing defines, each with the hook."""
        return [(owner, hook) for _, owner, hook in self._waiting]

    def _take_kinds(self, kinds: Iterable[Kind]) -> None:
        """Receive the kinds that a plugin brings."""
        for kind in list(kinds):
            if not isinstance(kind, Kind):
                raise PluginError(
                    f"cvx_kinds returned {kind!r}, a {type(kind).__name__}.",
                    "It returns cvx_core.Kind records.",
                )
            if (kind, self._owner) in self._brought:
                continue  # the plugin is registered anew, for the hook of its own kind
            taken = [*self.kinds.values(), *(brought for brought, _ in self._brought)]
            if any(kind.name == one.name or kind.hook == one.hook for one in taken):
                raise PluginError(f"There is a kind {kind.name!r} or a hook {kind.hook!r} already.")
            self._brought.append((kind, self._owner))

    def _add_kinds(self) -> None:
        """Define the hooks of the kinds that were brought, and ask the plugins that wait for one.

        Only after the plugin that brings them is registered: pluggy can't take a hook back.
        """
        new = [kind for kind, _ in self._brought if kind.name not in self.kinds]
        hooks = {kind.hook for kind in new}
        asked = {owner: plugin for plugin, owner, hook in self._waiting if hook in hooks}
        # They are registered anew as a whole, so that one that fails loses all its components.
        for owner, plugin in asked.items():
            self._evict(plugin, owner)
        for kind in new:

            def spec() -> None:
                """Return components."""

            specs = type("Specs", (), {kind.hook: staticmethod(hookspec(historic=True)(spec))})
            self._manager.add_hookspecs(specs)
            self.kinds[kind.name] = kind
            self._table[kind.name] = {}
            self._listen(kind.name)
        for owner, plugin in asked.items():
            self.register(plugin, owner)

    def register(self, plugin: object, owner: str) -> None:
        """Ask one plugin for its components; on any failure none of them is kept.

        A hook that nothing defines yet is heard once a plugin brings its kind (`unknown_hooks`).

        Raises
        ------
        PluginError
            Only under ``CVX_STRICT=1``; otherwise the failure is noted in `failures`.
        """
        previous, self._owner = self._owner, owner
        try:
            if not _implements_a_hook(plugin):
                raise PluginError(
                    "The plugin implements none of the hooks " + ", ".join(self._hooks()) + ".",
                    "Mark its functions with @cvx_core.hookimpl.",
                )
            self._manager.register(plugin, owner)
            for hook in self._manager.get_hookcallers(plugin) or ():
                if not hook.has_spec():
                    self._waiting.append((plugin, owner, hook.name))
        except KeyboardInterrupt:
            raise
        # The plugin boundary: a plugin may raise anything, and exit.
        except BaseException as error:
            self._evict(plugin, owner)
            self._brought = [one for one in self._brought if one[0].name in self.kinds]
            self.fail(owner, error)
        else:
            self._add_kinds()
        finally:
            self._owner = previous

    def check_hooks(self) -> None:
        """When strict, refuse hooks that nothing defines; to be called after discovery.

        Raises
        ------
        PluginError
            Only under ``CVX_STRICT=1``.
        """
        for owner, hook in self.unknown_hooks if self._strict else ():
            raise PluginError(
                f"Plugin {owner} implements {hook}, a hook that no installed plugin defines.",
                did_you_mean(hook, self._hooks()),
            )

    def fail(self, owner: str, error: BaseException) -> None:
        """Note that a plugin can't be used (raise instead when strict)."""
        failure = Failure(owner, error)
        if self._strict:
            raise PluginError(f"Plugin {owner} failed: {failure.reason}") from error
        self.failures.append(failure)

    def add(self, kind: str, component: Component, *, replace: bool = False) -> None:
        """Register one component from a program, for the life of the process.

        Raises
        ------
        ConflictError
            If the name is taken and `replace` is false.
        """
        owners = self._table[kind].setdefault(component.name, {})
        if owners and not replace:
            raise ConflictError(
                f"The {kind} {component.name!r} is already offered by {', '.join(owners)}.",
                "Choose another name, or pass replace=True.",
            )
        if replace:
            owners.clear()
        owners[PROGRAM] = component

    def offers(self, kind: str) -> list[Offer]:
        """Return all offers of one kind, sorted by name and owner."""
        return [
            Offer(kind, component, owner)
            for _, owners in sorted(self._table.get(kind, {}).items())
            for owner, component in sorted(owners.items())
        ]

    def names(self, kind: str) -> list[str]:
        """Return the names on offer, sorted."""
        return sorted(self._table.get(kind, {}))

    def find(self, kind: str, name: str) -> Component:
        """Return the component called `name` (``name`` or ``name@distribution``).

        Capitals, hyphens and underscores don't count: ``GradCAM`` and ``grad_cam`` are
        ``grad-cam``, unless components differ only in them.

        Raises
        ------
        UnknownComponentError
            If nobody offers it; a plugin that failed to load is chained as the cause.
        ConflictError
            If several distributions offer it and none is named.
        """
        bare, _, wanted = name.partition("@")
        table = self._table.get(kind, {})
        if bare not in table:
            alike = [one for one in table if _spelled_alike(one) == _spelled_alike(bare)]
            bare = alike[0] if len(alike) == 1 else bare
        owners = table.get(bare, {})
        if wanted:
            wanted = normal_name(wanted)
            owners = {
                owner: component
                for owner, component in owners.items()
                if wanted in (normal_name(owner), normal_name(owner.partition(":")[0]))
            }
        if not owners:
            raise self._unknown(kind, name)
        if len(owners) > 1:
            distributions = sorted(owner.partition(":")[0] for owner in owners)
            raise ConflictError(
                f"The {kind} {bare!r} is offered by {' and by '.join(distributions)}.",
                "Pick one: " + " or ".join(f"'{bare}@{name}'" for name in distributions) + ".",
            )
        return next(iter(owners.values()))

    def _take(self, kind: str, components: Iterable[Component]) -> None:
        """Receive what one hook of one plugin returned: all of it or nothing."""
        answer = list(components)
        for component in answer:
            if not isinstance(component, Component):
                raise PluginError(
                    f"{self.kinds[kind].hook} returned {component!r}, "
                    f"a {type(component).__name__}.",
                    "Hooks return cvx_core.Component records.",
                )
        for component in answer:
            owners = self._table[kind].setdefault(component.name, {})
            if self._owner in owners:
                raise PluginError(f"It offers the {kind} {component.name!r} twice.")
            owners[self._owner] = component

    def _evict(self, plugin: object, owner: str) -> None:
        # pluggy can leave a plugin half registered when a hook raises during replay.
        if self._manager.is_registered(plugin):
            self._manager.unregister(plugin)
        self._waiting = [one for one in self._waiting if one[0] is not plugin]
        for names in self._table.values():
            for name in [n for n, owners in names.items() if owners.pop(owner, None)]:
                if not names[name]:
                    del names[name]

    def _unknown(self, kind: str, name: str) -> UnknownComponentError:
        # As announced: the one to begin with first.
        candidates = list(self._table.get(kind, {}))
        if "@" in name:
            candidates = [f"{o.component.name}@{o.distribution}" for o in self.offers(kind)]
        hints = [did_you_mean(name, candidates)]
        if not hints[0]:
            known = ", ".join(self.names(kind)) or "none"
            hints = [f"Installed: {known}."]
        for failure in self.failures:
            hints.append(f"The plugin {failure.owner} failed to load ({failure.reason}).")
        for owner, hook in self.unknown_hooks:
            hints.append(f"No installed plugin defines the hook {hook} of {owner}.")
        if self.disabled:
            hints.append("Disabled: " + ", ".join(self.disabled) + ".")
        if self.incompatible:
            hints.append("Made for another version of cvx: " + ", ".join(self.incompatible) + ".")
        hints.append("'cvx plugins' lists what is installed.")
        error = UnknownComponentError(f"Unknown {kind} {name!r}.", " ".join(filter(None, hints)))
        if self.failures:
            error.__cause__ = self.failures[0].error
        return error


def _spelled_alike(name: str) -> str:
    """Return what spellings of a name have in common: ``MyMethod++``, ``my-method-plus-plus``."""
    return re.sub(r"[-_ ]", "", name.casefold().replace("+", "plus"))


def _implements_a_hook(plugin: object) -> bool:
    # Looks only at the names of the hooks: a module's lazy __getattr__ stays asleep otherwise.
    attributes: Any = plugin if isinstance(plugin, type) else type(plugin)
    own = vars(plugin) if hasattr(plugin, "__dict__") else {}
    return any(
        getattr(getattr(plugin, name, None), "cvx_impl", None) is not None
        for name in {*own, *vars(attributes)}
        if name.startswith("cvx_")
    )
