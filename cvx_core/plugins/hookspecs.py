"""Hooks that a plugin implements.

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

KINDS = (
    Kind("explainer", "cvx_explainers", "cvx_core.explainers.base:Explainer"),
    Kind("renderer", "cvx_renderers", "cvx_core.explanations.renderer:Renderer"),
    Kind("model source", "cvx_model_sources", "cvx_core.models.sources:ModelSource"),
    Kind("command", "cvx_commands"),
    Kind("check", "cvx_checks", "cvx_core.explainers.check:Check"),
    Kind("task", "cvx_tasks", "cvx_core.tasks.base:Task"),
    Kind("ground truth reader", "cvx_ground_truth_readers"),
)
"""Kinds that the core knows. Plugins bring more with the hook `cvx_kinds`."""


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
        """Return the commands of the command line: targets are `click.Command` objects."""

    @hookspec(historic=True)
    def cvx_checks(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Return the checks of maps: targets are subclasses of `cvx_core.explainers.Check`."""

    @hookspec(historic=True)
    def cvx_tasks(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Return the tasks: targets are subclasses of `cvx_core.Task`."""

    @hookspec(historic=True)
    def cvx_ground_truth_readers(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """Return the readers of ground truth: targets are functions like `read_annotations`."""

    @hookspec(historic=True)
    def cvx_kinds(self) -> Iterable[Kind]:  # type: ignore[empty-body]
        """Return kinds of components that the core doesn't know, each with its hook.

        Plugins that implement the hook of a kind may be registered earlier or later.
        """
