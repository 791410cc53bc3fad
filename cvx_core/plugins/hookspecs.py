"""The hooks that a plugin implements.

Hooks take no arguments and return records; the objects behind the records do the work,
because objects compose, take parameters and can be pickled. The hooks are historic: each
plugin is asked on its own when it is registered, so one that fails takes nobody with it and
one that is registered late (in a notebook) is heard all the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from cvx_core.plugins.component import Component, Kind

API = 1
"""Version of this interface. It is part of the entry-point group's name, so that it is
checked before any code of a plugin runs."""

GROUP = f"cvx.plugins.v{API}"
"""Entry-point group in which a distribution announces its plugin module."""

hookspec = pluggy.HookspecMarker("cvx")
hookimpl = pluggy.HookimplMarker("cvx")

HOOKS: dict[Kind, str] = {
    "explainer": "cvx_explainers",
    "renderer": "cvx_renderers",
    "model source": "cvx_model_sources",
    "command": "cvx_commands",
    "engine": "cvx_engines",
}


class CvxSpecs:
    """The hooks, one for each kind of component."""

    @hookspec(historic=True)
    def cvx_explainers(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Return the explainers: targets are subclasses of `cvx_core.Explainer`."""

    @hookspec(historic=True)
    def cvx_renderers(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Return the renderers: targets are subclasses of `cvx_core.Renderer`."""

    @hookspec(historic=True)
    def cvx_model_sources(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Return the model sources: targets are subclasses of `cvx_core.ModelSource`."""

    @hookspec(historic=True)
    def cvx_commands(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Return the verbs of the command line: targets are `click.Command` objects."""

    @hookspec(historic=True)
    def cvx_engines(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Return the engines: targets are subclasses of `cvx_core.engine.Engine`."""
