"""The functions that most people use: by name, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from cvx_core.engine import Engine
from cvx_core.errors import PluginError, UsageError
from cvx_core.explainers.base import Explainer
from cvx_core.explainers.runner import Labels, Targets, run
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.renderer import Renderer
from cvx_core.models.sources import ModelSource
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.component import Component, Kind, component_name
from cvx_core.plugins.discovery import registry
from cvx_core.plugins.parameters import build

_BASES: dict[Kind, type[Any]] = {
    "explainer": Explainer,
    "renderer": Renderer,
    "model source": ModelSource,
    "engine": Engine,
}
T = TypeVar("T")


def get_explainer(name: str, /, **parameters: Any) -> Explainer:
    """Return an explainer by name.

    Parameters
    ----------
    name
        As listed by ``cvx plugins``; ``name@distribution`` where two plugins offer it.
    **parameters
        The explainer's own.

    Raises
    ------
    UnknownComponentError, ConflictError
        If no plugin offers the name, or several do.
    OptionError
        If a parameter is unknown or refused.
    """
    explainer: Explainer = _get("explainer", name, parameters)
    object.__setattr__(explainer, "_name", name.partition("@")[0])
    return explainer


def get_renderer(name: str, /, **parameters: Any) -> Renderer:
    """Return a renderer by name; see `get_explainer`."""
    renderer: Renderer = _get("renderer", name, parameters)
    return renderer


def get_engine(name: str, /, **parameters: Any) -> Engine:
    """Return an engine by name; see `get_explainer`."""
    engine: Engine = _get("engine", name, parameters)
    return engine


def _get(kind: Kind, name: str, parameters: dict[str, Any]) -> Any:
    made = build(kind, registry().find(kind, name), parameters)
    base = _BASES[kind]
    if not isinstance(made, base):
        raise PluginError(
            f"The {kind} {name!r} is a {type(made).__name__}, not a cvx_core.{base.__name__}.",
            "Report it to the plugin's author; 'cvx plugins' names the package.",
        )
    return made


def explain(
    model: VisionModel,
    images: Any,
    explainer: str | Explainer | Sequence[str | Explainer] = "class-attention",
    target: Targets = None,
    label: Labels = None,
    seed: int = 0,
    *,
    budget: int | None = None,
    sanity: bool = False,
) -> list[Explanation]:
    """Explain images with one or more explainers.

    Parameters
    ----------
    explainer
        An explainer or the name of one, or several of them; several share the forward passes.
    model, images, target, label, seed, budget, sanity
        See `Explainer.explain`.

    Returns
    -------
    list of Explanation
        By image, then explainer, then target.

    Examples
    --------
    >>> import cvx_core as cvx
    >>> model = cvx.load_model("embedded")                                   # doctest: +SKIP
    >>> [why] = cvx.explain(model, "screwdriver.jpg", "activation-error",
    ...                     label="screwdriver")                             # doctest: +SKIP
    """
    if not isinstance(model, VisionModel):
        raise UsageError(
            f"The model is a {type(model).__name__}.",
            "Wrap a torch.nn.Module: VisionModel(module, preprocess=..., classes=...).",
        )
    several = [explainer] if isinstance(explainer, str | Explainer) else list(explainer)
    if not several:
        raise UsageError("There is no explainer.", "Name one, such as 'class-attention'.")
    explainers = [get_explainer(e) if isinstance(e, str) else e for e in several]
    return run(model, images, explainers, target, label, seed, budget=budget, sanity=sanity)


C = TypeVar("C", bound=type[Any])


@overload
def register(component: C, *, replace: bool = False) -> C: ...
@overload
def register(component: Component, *, kind: Kind, replace: bool = False) -> Component: ...
@overload
def register(*, name: str = "", replace: bool = False) -> Callable[[C], C]: ...


def register(
    component: Any = None, *, name: str = "", kind: Kind | None = None, replace: bool = False
) -> Any:
    """Register a component for the life of this process: for notebooks and programs.

    Parameters
    ----------
    component
        A subclass of `Explainer`, `Renderer`, `ModelSource` or `Engine`, registered under its name
        in lower case with hyphens (``MyMethod`` as ``my-method``); or a `Component`, with its
        `kind`.
        Left out, `register` is a decorator that takes the options.
    name
        Another name.
    kind
        For a `Component`: ``"explainer"``, ``"renderer"``, ``"model source"``, ``"command"`` or
        ``"engine"``.
    replace
        Take the place of components that have the name already.

    Returns
    -------
    The component, so that ``@register`` works as a decorator.

    Raises
    ------
    ConflictError
        If the name is taken and `replace` is false.
    PluginError
        If it is no component.
    """
    if component is None:
        return lambda later: register(later, name=name, kind=kind, replace=replace)  # type: ignore[call-overload]
    record = component
    if not isinstance(component, Component):
        kinds = [
            k
            for k, base in _BASES.items()
            if isinstance(component, type) and issubclass(component, base)
        ]
        if not kinds:
            raise PluginError(
                f"{component!r} is no component.",
                "Register a subclass of Explainer, Renderer, ModelSource or Engine, or a Component "
                "record.",
            )
        kind = kinds[0]
        lines = (component.__doc__ or "").strip().splitlines()
        record = Component(
            name or component_name(component.__name__), lines[0] if lines else "", component
        )
    elif kind is None:
        raise PluginError(
            f"What kind of component is {component.name!r}?", "Pass kind='explainer' or another."
        )
    registry().add(kind, record, replace=replace)
    return component
