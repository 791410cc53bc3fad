"""High-level functions: explain images, find components, register one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from cvx_core.errors import OptionError, PluginError, UsageError
from cvx_core.explainers.base import Explainer
from cvx_core.explainers.check import installed_checks
from cvx_core.explainers.composition import compose, is_composition
from cvx_core.explainers.runner import Labels, Targets, run
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.renderer import Renderer
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.component import Component, component_name
from cvx_core.plugins.defaults import EXPLAINERS
from cvx_core.plugins.discovery import get_component, registry
from cvx_core.plugins.parameters import parse_parameters


def get_explainer(name: str, /, **parameters: Any) -> Explainer:
    """Return an explainer by name.

    Parameters
    ----------
    name
        As listed by ``cvx plugins``; ``name@distribution`` where two plugins offer it. Parameters
        may follow as on the command line: ``"grad-cam:layer=layer3"``. Or a composition, such as
        ``"mean(grad-cam, hires-cam)"``.
    **parameters
        The explainer's own.

    Raises
    ------
    UnknownComponentError, ConflictError
        If no plugin offers the name, or several do.
    OptionError
        If a parameter is unknown or refused, or a composition is malformed.
    """
    if is_composition(name):
        if parameters:
            raise OptionError(
                f"The composition {name!r} takes no parameters.", "Write them behind its parts."
            )
        return compose(name, get_explainer)
    name, written = parse_parameters(name)
    parameters = written | parameters
    explainer = get_component("explainer", name, parameters, Explainer)  # type: ignore[type-abstract]
    object.__setattr__(explainer, "_name", name.partition("@")[0])
    return explainer


def get_renderer(name: str, /, **parameters: Any) -> Renderer:
    """Return a renderer by name; see `get_explainer`."""
    name, written = parse_parameters(name)
    return get_component("renderer", name, written | parameters, Renderer)  # type: ignore[type-abstract]


def explain(
    model: VisionModel,
    images: Any,
    explainer: str | Explainer | Sequence[str | Explainer] = EXPLAINERS[0],
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
            f"model must be a VisionModel, got {type(model).__name__}.",
            "Wrap a torch.nn.Module: VisionModel(module, preprocess=..., classes=...).",
        )
    several = [explainer] if isinstance(explainer, str | Explainer) else list(explainer)
    if not several:
        raise UsageError(
            "explainer must be one or more explainers, got none.",
            f"Name one, such as {EXPLAINERS[0]!r}.",
        )
    explainers = [get_explainer(e) if isinstance(e, str) else e for e in several]
    checks = installed_checks() if sanity else ()
    return run(model, images, explainers, target, label, seed, budget=budget, checks=checks)


C = TypeVar("C", bound=type[Any])


@overload
def register(component: C, *, replace: bool = False) -> C: ...
@overload
def register(component: Component, *, kind: str, replace: bool = False) -> Component: ...
@overload
def register(*, name: str = "", replace: bool = False) -> Callable[[C], C]: ...


def register(
    component: Any = None, *, name: str = "", kind: str | None = None, replace: bool = False
) -> Any:
    """Register a component for the life of this process: for notebooks and programs.

    Parameters
    ----------
    component
        A subclass of `Explainer`, `Renderer`, `ModelSource` or another kind's base class,
        registered under its name in lower case with hyphens (``MyMethod`` as ``my-method``); or a
        `Component`, with its `kind`.
        Left out, `register` is a decorator that takes the options.
    name
        Another name.
    kind
        For a `Component`: ``"explainer"``, ``"renderer"``, ``"model source"``, ``"command"`` or
        another kind that ``cvx plugins`` lists.
    replace
        Replace components that have the name already.

    Returns
    -------
    The component, so that ``@register`` works as a decorator.

    Raises
    ------
    ConflictError
        If the name is taken and `replace` is false.
    PluginError
        If it is not a component.
    """
    if component is None:
        return lambda later: register(later, name=name, kind=kind, replace=replace)  # type: ignore[call-overload]
    record = component
    if not isinstance(component, Component):
        kinds = [k.name for k in registry().kinds.values() if k.holds(component)]
        if not kinds:
            raise PluginError(
                f"component must be a subclass of Explainer, Renderer, ModelSource or another "
                f"kind's base class, or a Component record, got {component!r}."
            )
        kind = kinds[0]
        lines = (component.__doc__ or "").strip().splitlines()
        record = Component(
            name or component_name(component.__name__), lines[0] if lines else "", component
        )
    elif kind is None:
        raise PluginError(
            f"The kind of component {component.name!r} is not given.",
            "Pass kind='explainer' or another.",
        )
    registry().add(kind, record, replace=replace)
    return component
