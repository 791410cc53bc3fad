"""Requests of a run: images, explainers and targets, and the names of the maps' files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from cvx_core.api import get_explainer
from cvx_core.errors import InputError, ModelError, UsageError
from cvx_core.explainers.base import Explainer
from cvx_core.explainers.composition import compose, is_composition
from cvx_core.explanations.output_folder import Names, settled, slug
from cvx_core.images.image_files import SourceImage, is_url, read_image
from cvx_core.images.inputs import image_paths
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.isolation import error_boundary
from cvx_core.plugins.parameters import parse_parameters
from cvx_core.tasks.catalogue import image_label
from cvx_core.tasks.classes import ClassRef, find_class
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.targets import Target


@dataclass(frozen=True)
class ImageRequest:
    """One image with its label and targets.

    Attributes
    ----------
    path
        Of the file.
    label
        The true class by name or index, for segmenters and detectors the path of a file with the
        ground truth (see `cvx_core.read_ground_truth`), or None where it is unknown.
    targets
        The targets; if empty, each explainer takes its default.
    url
        Where the image is read from, if it is no file; `path` has its name.
    place
        The path from the root: a plugin may change the working folder.
    """

    path: Path
    label: ClassRef | None = None
    targets: tuple[Target, ...] = ()
    url: str = ""
    place: Path = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", settled(self.path))

    def read(self) -> SourceImage:
        """Return the image; see `cvx_core.images.image_files.read_image`."""
        return read_image(self.url or self.place, shown=self.shown)

    @property
    def shown(self) -> str:
        """The path or the URL, for people."""
        return self.url or str(self.path)


def image_requests(
    images: Sequence[str | os.PathLike[str]],
    labels: Sequence[ClassRef] = (),
    targets: tuple[Target, ...] = (),
) -> list[ImageRequest]:
    """Return a request for each image that was named on the command line.

    Parameters
    ----------
    images
        Files, folders, patterns and URLs; see `cvx_core.images.image_paths`.
    labels
        None, one for all images, or one for each, in order.
    targets
        Those of each image.

    Raises
    ------
    InputError
        If a folder or a pattern has no image.
    UsageError
        If the numbers differ.
    """
    found = [one for source in images for one in _paths(source)]
    if len(labels) not in (0, 1, len(found)):
        raise UsageError(
            f"Got {len(labels)} labels for {len(found)} images.",
            "Give --label once for all images, or once for each; or a CSV with path and label, or "
            "'folder' for the names of their folders.",
        )
    each: Sequence[ClassRef | None] = labels or [None]
    if len(each) == 1:
        each = [each[0]] * len(found)
    made = []
    for one, label in zip(found, each, strict=True):
        url = one if isinstance(one, str) and is_url(one) else ""
        path = Path(url.rpartition("/")[2] or "image") if url else Path(one)
        made.append(ImageRequest(path, label, targets, url))
    return made


def _paths(source: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    """Return what a path stands for; a pattern without a match is the name of one missing file."""
    try:
        return image_paths(source)
    except InputError:
        if Path(source).is_dir():
            raise
        return [source]


@dataclass(frozen=True, eq=False)
class NamedExplainer:
    """An explainer under the name that it was requested by.

    Attributes
    ----------
    text
        As written, as in ``"class-attention:layer=layer4"``.
    stem
        What its files' names begin with.
    title
        What its maps are called: the name, with the parameters where two have the same name.
    explainer
        The explainer.
    components
        Names of the components that it is made of; several for a composition.
    """

    text: str
    stem: str
    title: str
    explainer: Explainer
    components: tuple[str, ...] = ()

    def targets(self, request: ImageRequest) -> tuple[Target, ...]:
        """Return the targets that it explains for an image."""
        return request.targets or (self.explainer.default_target,)

    def needs_label(self, request: ImageRequest) -> bool:
        """Return whether a target of the image needs its label."""
        return any(
            target.needs_label and getattr(target, "label", None) is None
            for target in self.targets(request)
        )


def build_explainers(texts: Sequence[str]) -> list[NamedExplainer]:
    """Build explainers from ``name:key=value,...`` or compositions; each text is built once.

    Raises
    ------
    UnknownComponentError, ConflictError, OptionError
        See `cvx_core.get_explainer`.
    """
    texts = list(dict.fromkeys(texts))
    used: list[list[str]] = [[] for _ in texts]
    built = [compose(text, partial(_get, names)) for text, names in zip(texts, used, strict=True)]
    plain = [
        text if is_composition(text) else one.name for text, one in zip(texts, built, strict=True)
    ]
    explainers, names = [], Names()
    for text, explainer, bare, parts in zip(texts, built, plain, used, strict=True):
        alone = plain.count(bare) == 1
        rest = text[len(parse_parameters(text)[0].partition("@")[0]) :]
        stem = bare if alone else f"{bare}-{slug(rest)}".rstrip("-")
        stem = names.fresh(slug(text) if is_composition(text) else stem)
        title = bare if alone else text
        explainers.append(NamedExplainer(text, stem, title, explainer, tuple(parts)))
    return explainers


def _get(used: list[str], text: str) -> Explainer:
    """Return an explainer, and note its name."""
    explainer = get_explainer(text)
    used.append(explainer.name)
    return explainer


def check_labels(requests: Sequence[ImageRequest], explainers: Sequence[NamedExplainer]) -> None:
    """Refuse targets that need a label where an image has none.

    Raises
    ------
    UsageError
        Naming who needs the label.
    """
    for request in requests:
        needing = [one for one in explainers if one.needs_label(request)]
        if not needing or request.label is not None:
            continue
        if request.targets:
            who = "The targets error and margin require"
        else:
            who = " and ".join(one.text for one in needing)
            who += " requires" if len(needing) == 1 else " require"
        raise UsageError(
            f"{who} ground truth, but {request.path.name} has no label.",
            "Pass --label CLASS.",
        )


def count_classes(
    model: VisionModel, requests: Sequence[ImageRequest], image: SourceImage
) -> int | None:
    """Return how many classes a model has, from its prediction for an image if it names none.

    None where nothing depends on it.
    """
    if model.classes is not None:
        return len(model.classes)
    if not any(_refers(request) for request in requests):
        return None
    with error_boundary(lambda reason: ModelError(f"The model failed: {reason}")):
        return model.predict([image])[0].count


def read_label(
    request: ImageRequest, model: VisionModel, count: int | None = None
) -> GroundTruth | None:
    """Return the ground truth of an image, in the form that the model's task needs.

    Parameters
    ----------
    count
        How many classes the model has, if it is known.

    Raises
    ------
    InputError, TargetError
        If its file can't be read.
    """
    if request.label is None:
        return None
    return image_label(model.task, request.label, request.place, model.classes, count)


def _refers(request: ImageRequest) -> bool:
    return request.label is not None or any(target.references for target in request.targets)


@dataclass(frozen=True, eq=False)
class MapRequest:
    """One map to make of an image.

    Attributes
    ----------
    explainer
        The explainer.
    index
        Position of its target among those of the image.
    name
        Of its files, without their suffix, as in ``"class-attention.predicted"``; without a
        target where the map is the same for all.
    """

    explainer: NamedExplainer
    index: int
    name: str


class MapPlan:
    """The maps to make of one image, and the names of their files.

    A target with the same classes as an earlier one is left out, and an explainer whose maps don't
    depend on the target makes one map. The model is not run.

    Parameters
    ----------
    request
        The image.
    explainers
        The explainers.
    classes, count
        The model's class names, and their number if it is known.
    truth
        The ground truth, in the form that the model's task needs.

    Attributes
    ----------
    request, explainers, truth
        As given.
    targets
        The targets, each once; empty where each explainer takes its default.
    maps
        By explainer, then target.

    Raises
    ------
    TargetError
        If a class is unknown.
    """

    def __init__(
        self,
        request: ImageRequest,
        explainers: Sequence[NamedExplainer],
        classes: Sequence[str] | None,
        count: int | None,
        truth: GroundTruth | None = None,
    ) -> None:
        count = count or 2
        found: dict[str, Target] = {}
        for target in request.targets:
            found.setdefault(target.with_indices(classes, count).key, target)
        self.request, self.truth = request, truth
        self.targets = tuple(found.values())
        self.explainers = list(explainers)
        self.maps: list[MapRequest] = []
        names = Names()
        for one in explainers:
            for index, target in enumerate(self.targets or one.targets(request)):
                if one.explainer.class_specific:
                    stem = f"{one.stem}.{_name(target, classes, count)}"
                    self.maps.append(MapRequest(one, index, names.fresh(stem)))
                elif index == 0:
                    self.maps.append(MapRequest(one, index, names.fresh(one.stem)))

    def alone(self, index: int) -> MapPlan:
        """Return the plan for one of the targets."""
        plan = copy(self)
        plan.targets = (self.targets[index],)
        plan.maps = [replace(one, index=0) for one in self.maps if one.index == index]
        return plan


def _name(target: Target, classes: Sequence[str] | None, count: int) -> str:
    """Return the part of a file's name that stands for a target."""
    if target.asked:
        return slug(target.asked) or "target"
    named = copy(target)
    for name in target.class_fields:
        index = find_class(getattr(target, name), classes, count)
        object.__setattr__(named, name, str(index) if classes is None else classes[index])
    return slug(named.key) or "target"
