"""High-level functions: explain images, find components, register one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, overload

from torch import Tensor, nn

from cvx_core._util.environment import optional_module
from cvx_core.errors import OptionError, PluginError, UsageError, did_you_mean, install_command
from cvx_core.explainers.base import Explainer
from cvx_core.explainers.check import installed_checks
from cvx_core.explainers.composition import compose, is_composition
from cvx_core.explainers.runner import Labels, Targets, run
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.renderer import Renderer
from cvx_core.explanations.results import Explanations
from cvx_core.images.inputs import (
    Parts,
    batches,
    count_images,
    is_loader,
    label_names,
    listed,
    ndim,
)
from cvx_core.images.prepared_image import renumbered
from cvx_core.models.sources import wrap
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.component import Component, component_name
from cvx_core.plugins.defaults import EXPLAINERS
from cvx_core.plugins.discovery import get_component, registry
from cvx_core.plugins.parameters import parse_parameters
from cvx_core.tasks.ground_truth import plain


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
                f"The composition {name!r} takes no parameters.",
                "Give them to its parts, as in mean(A:KEY=VALUE, B).",
            )
        return compose(name, get_explainer)
    name, written = parse_parameters(name)
    parameters = written | parameters
    explainer = get_component("explainer", name, parameters, Explainer)  # type: ignore[type-abstract]
    object.__setattr__(explainer, "_name", registry().find("explainer", name).name)
    return explainer


def get_renderer(name: str, /, **parameters: Any) -> Renderer:
    """Return a renderer by name; see `get_explainer`."""
    name, written = parse_parameters(name)
    return get_component("renderer", name, written | parameters, Renderer)  # type: ignore[type-abstract]


def explain(
    model: VisionModel | nn.Module,
    images: Any,
    explainer: str | Explainer | Sequence[str | Explainer] = EXPLAINERS[0],
    target: Targets = None,
    label: Labels = None,
    seed: int = 0,
    *,
    budget: int | None = None,
    sanity: bool = False,
    progress: bool = False,
    **parameters: Any,
) -> Explanations:
    """Explain images with one or more explainers.

    Parameters
    ----------
    model
        A `VisionModel`, or a network: it is wrapped as by `wrap`, with the preprocessing that it
        brings itself, or for prepared tensors.
    images
        A path, a folder with all folders below it, a pattern such as ``"photos/*.jpg"``, a URL, a
        PIL image, a uint8 array (H, W, 3), a list of these, or a prepared float tensor
        (B, C, H, W); or a data loader or data set of torch, of images, pairs (image, label), or
        dictionaries. All explanations are kept; `iter_explain` keeps a few.
    explainer
        An explainer or the name of one, with parameters as on the command line
        (``"grad-cam:layer=layer3"``), or several of them; several share the forward passes.
    target
        What is explained: a class by name or index, a text as on the command line
        (``"tabby vs tiger cat"``, ``"error"``), or a `Target`. One for all images; or a list,
        tensor or array with one for each, or a list or row of several; or a dictionary by path or
        name of the image. None takes that of the explainer.
    label
        Ground truth: a class by name or index (for a segmenter a mask (H, W), for a detector
        `GroundTruthBoxes` or a dictionary of ``boxes`` and ``labels``), or a file as on the command
        line, such as a CSV with the columns path and label; ``"folder"`` for the names of the
        images' folders. One for all images, or one for each, as of `target`. None takes the labels
        that a data loader yields.
    seed, budget, sanity
        See `Explainer.explain`.
    progress
        Whether to show a progress bar (of tqdm).
    **parameters
        Parameters of all explainers that are given by name, as in ``layer="layer3"`` or
        ``layer=net.layer3``.

    Returns
    -------
    list of Explanation
        By image, then explainer, then target. A notebook shows the overlays.

    Raises
    ------
    UsageError
        If numbers of images, targets and labels differ, a class is unknown, a label is missing, or
        the method can't explain this model.
    InputError
        If an image can't be read.

    Examples
    --------
    >>> import cvx_core as cvx
    >>> model = cvx.load_model("embedded")                                   # doctest: +SKIP
    >>> [why] = cvx.explain(model, "screwdriver.jpg", "activation-error",
    ...                     label="screwdriver")                             # doctest: +SKIP
    >>> cvx.explain(net, batch, "grad-cam", target=281, layer=net.layer3)    # doctest: +SKIP
    """
    chosen = _Run(model, explainer, parameters, seed, budget, sanity)
    if is_loader(images):
        return Explanations(chosen.by_batch(images, target, label, BATCH, progress))
    if not isinstance(images, Tensor):
        images = listed(images)
    total = chosen.count_maps(count_images(images), target)
    with _bar(progress, total) as advance:
        return chosen.explain(images, target, label, advance)


BATCH = 16
"""Images that `iter_explain` holds at once."""


def iter_explain(
    model: VisionModel | nn.Module,
    images: Any,
    explainer: str | Explainer | Sequence[str | Explainer] = EXPLAINERS[0],
    target: Targets = None,
    label: Labels = None,
    seed: int = 0,
    *,
    budget: int | None = None,
    sanity: bool = False,
    progress: bool = False,
    batch: int = BATCH,
    **parameters: Any,
) -> Iterator[Explanation]:
    """Yield the explanations of images as they are made, with only a few images in memory.

    Parameters
    ----------
    model, images, explainer, target, label, seed, budget, sanity, progress, parameters
        See `explain`.
    batch
        Images that are read and explained at once; a data loader has batches of its own.

    Yields
    ------
    Explanation
        By image, then explainer, then target.

    Raises
    ------
    UsageError, InputError
        See `explain`; as soon as the image or label is reached.

    Examples
    --------
    >>> import cvx_core as cvx
    >>> for one in cvx.iter_explain(model, "photos"):                        # doctest: +SKIP
    ...     one.save(f"maps/{one.name}.npz")
    """
    if batch < 1:
        raise UsageError(f"batch must be at least 1, got {batch}.", "Pass batch=16.")
    chosen = _Run(model, explainer, parameters, seed, budget, sanity)
    return chosen.by_batch(images, target, label, batch, progress)


_ARGUMENTS = ("target", "label", "seed", "budget", "sanity", "progress", "explainer")


class _Run:
    """A model and explainers, ready for images."""

    def __init__(
        self,
        model: VisionModel | nn.Module,
        explainer: str | Explainer | Sequence[str | Explainer],
        parameters: Mapping[str, Any],
        seed: int,
        budget: int | None,
        sanity: bool,
    ) -> None:
        self._model = wrap(model)
        several = [explainer] if isinstance(explainer, str | Explainer) else list(explainer)
        if not several:
            raise UsageError(
                "explainer must be one or more explainers, got none.",
                f"Name one, such as {EXPLAINERS[0]!r}.",
            )
        if parameters and not any(isinstance(one, str) for one in several):
            raise UsageError(
                f"Unexpected argument {min(parameters)!r}: no explainer is given by name.",
                "Give parameters to the explainer itself.",
            )
        try:
            self._explainers = [
                get_explainer(e, **parameters) if isinstance(e, str) else e for e in several
            ]
        except OptionError as error:
            hints = (did_you_mean(name, _ARGUMENTS, 1) for name in parameters)
            hint = next(filter(None, hints), "")
            if not hint:
                raise
            # A misspelled argument of explain is taken for one of the explainer.
            raise OptionError(error.message, f"{hint} {error.hint}") from error
        self._seed, self._budget = seed, budget
        self._checks = installed_checks() if sanity else ()

    def explain(
        self, images: Any, target: Any, label: Any, advance: Callable[[], object]
    ) -> Explanations:
        """Explain images at once; `advance` is called after each map."""
        return run(
            self._model,
            images,
            self._explainers,
            target,
            label,
            self._seed,
            budget=self._budget,
            checks=self._checks,
            made=lambda *_: advance(),
        )

    def by_batch(
        self, images: Any, target: Any, label: Any, size: int, progress: bool
    ) -> Iterator[Explanation]:
        """Explain so many images at a time."""
        if not (is_loader(images) or isinstance(images, Tensor | Iterator)):
            images = listed(images)
        count, done = count_images(images), 0
        targets = Parts(target, isinstance(target, list | tuple) or ndim(target) > 0, "targets")
        axes = self._model.task.label_axes
        each = isinstance(label, list | tuple) or (axes is not None and ndim(label) == axes + 1)
        labels = Parts(label, each and count != 1, "labels")
        for one in (targets, labels):
            one.check_count(count)
        with _bar(progress, self.count_maps(count, target)) as advance:
            for batch in batches(images, size):
                here = renumbered(self._model.prepare(batch.images), done)
                names = [(one.source.path, one.source.name) for one in here]
                known = labels.of(done, names)
                if label is None and batch.labels is not None:
                    known = self._named(batch.labels, label_names(images))
                yield from self.explain(here, targets.of(done, names), known, advance)
                done += len(here)
        for one in (targets, labels):
            one.check_used(done)

    def _named(self, labels: Any, names: list[str] | None) -> Any:
        """Return labels of a data set by name, where it and the model name their classes.

        The numbers of a data set are often others than those of the model.
        """
        model = self._model
        if names is None or model.classes is None or model.task.label_axes != 0:
            return labels
        given = plain(labels)
        if not isinstance(given, list | tuple):
            return labels
        return [
            names[k] if type(k) is int and 0 <= k < len(names) else k for k in map(plain, given)
        ]

    def count_maps(self, images: int | None, target: Any) -> int | None:
        """Return how many maps will be made, if that is known."""
        if images is None:
            return None
        if isinstance(target, list | tuple) or ndim(target) > 0:
            images = sum(
                len(one) if isinstance(one, list | tuple) or ndim(one) > 0 else 1 for one in target
            )
        return images * len(self._explainers)


@contextmanager
def _bar(shown: bool, total: int | None) -> Iterator[Callable[[], object]]:
    """Show a progress bar; what it yields is called after each map."""
    if not shown:
        yield lambda: None
        return
    tqdm = optional_module("tqdm.auto")
    if tqdm is None:
        raise UsageError("progress=True needs tqdm.", f"Install it: {install_command('tqdm')}")
    with tqdm.tqdm(total=total, unit="map") as bar:
        yield bar.update


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
    """Register a component in the current process, for notebooks and programs.

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
