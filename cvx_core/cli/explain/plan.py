"""What is asked of a run: which images, which explainers, which questions, under which names."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

from cvx_core.api import get_explainer, read_ground_truth
from cvx_core.errors import ModelError, UsageError
from cvx_core.explainers.base import Explainer
from cvx_core.explanations.output_folder import Names, settled, slug
from cvx_core.images.image_files import SourceImage, read_image
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.isolation import error_boundary
from cvx_core.plugins.parameters import parse_parameters
from cvx_core.tasks.classes import ClassRef, find_class
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.targets import Target


@dataclass(frozen=True)
class ImageRequest:
    """One image and what is asked about it.

    Attributes
    ----------
    path
        Of the file.
    label
        The true class by name or index, of a segmenter or detector the path of a file that holds
        the truth (see `cvx_core.read_ground_truth`), or None where it is unknown.
    targets
        The questions; with none, each explainer asks its own.
    place
        The path from the root: a plugin may change the working folder.
    """

    path: Path
    label: ClassRef | None = None
    targets: tuple[Target, ...] = ()
    place: Path = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", settled(self.path))

    def read(self) -> SourceImage:
        """Return the picture; see `cvx_core.images.image_files.read_image`."""
        return read_image(self.place, shown=str(self.path))


@dataclass(frozen=True, eq=False)
class NamedExplainer:
    """An explainer as it was asked for.

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
    """

    text: str
    stem: str
    title: str
    explainer: Explainer

    def targets(self, subject: ImageRequest) -> tuple[Target, ...]:
        """Return the questions that it answers about an image."""
        return subject.targets or (self.explainer.default_target,)

    def answers(self, subject: ImageRequest) -> bool:
        """Return whether the image has the label that its questions need."""
        return subject.label is not None or not any(
            target.needs_label and getattr(target, "label", None) is None
            for target in self.targets(subject)
        )


def build_explainers(texts: Sequence[str]) -> list[NamedExplainer]:
    """Build explainers from ``name:key=value,...``; one that is asked for twice is built once.

    Raises
    ------
    UnknownComponentError, ConflictError, OptionError
        See `cvx_core.get_explainer`.
    """
    texts = list(dict.fromkeys(texts))
    parsed = [parse_parameters(text) for text in texts]
    plain = [name.partition("@")[0] for name, _ in parsed]
    asked, names = [], Names()
    for text, (name, parameters), bare in zip(texts, parsed, plain, strict=True):
        explainer = get_explainer(name, **parameters)
        alone = plain.count(bare) == 1
        stem = names.fresh(bare if alone else f"{bare}-{slug(text[len(bare) :])}".rstrip("-"))
        asked.append(NamedExplainer(text, stem, bare if alone else text, explainer))
    return asked


def check_labels(subjects: Sequence[ImageRequest], asked: Sequence[NamedExplainer]) -> None:
    """Refuse questions that need a label about images that have none.

    Raises
    ------
    UsageError
        Naming who needs the label.
    """
    for subject in subjects:
        needing = [one for one in asked if not one.answers(subject)]
        if not needing:
            continue
        if subject.targets:
            who = "The targets error and margin compare"
        else:
            who = " and ".join(one.text for one in needing)
            who += " compares" if len(needing) == 1 else " compare"
        raise UsageError(
            f"{who} the answer with the truth, and {subject.path.name} has no label.",
            "Name its true class with --label CLASS.",
        )


def count_classes(
    model: VisionModel, subjects: Sequence[ImageRequest], image: SourceImage
) -> int | None:
    """Return how many classes a model has, asking it about an image if it names none.

    None where nothing depends on it.
    """
    if model.classes is not None:
        return len(model.classes)
    if not any(_refers(subject) for subject in subjects):
        return None
    with error_boundary(lambda reason: ModelError(f"The model failed: {reason}")):
        return model.predict([image])[0].count


def read_label(subject: ImageRequest, model: VisionModel) -> GroundTruth | None:
    """Return what is true of an image, in the form that the model's task needs.

    Raises
    ------
    InputError, TargetError
        If the file that should hold it can't be read.
    """
    if subject.label is None or model.task == "classification":
        return subject.label
    return read_ground_truth(str(subject.label), model.task, subject.place, model.classes)


def _refers(subject: ImageRequest) -> bool:
    return subject.label is not None or any(target.references for target in subject.targets)


@dataclass(frozen=True, eq=False)
class MapRequest:
    """One map that is wanted of an image.

    Attributes
    ----------
    asked
        The explainer.
    turn
        Position of its question among the image's.
    name
        Of its files, without their suffix, as in ``"class-attention.predicted"``; without a
        question where the map is the same for all.
    """

    asked: NamedExplainer
    turn: int
    name: str


class MapPlan:
    """Which maps are wanted of one image, and what their files are called.

    A question that comes down to the same classes as an earlier one is asked once, and an
    explainer whose maps don't depend on the question is asked once. The model is not run.

    Parameters
    ----------
    subject
        The image.
    asked
        The explainers.
    classes, count
        The model's class names, and their number if it is known.
    truth
        What is true of the image, in the form that the model's task needs.

    Attributes
    ----------
    subject, asked, truth
        As given.
    targets
        The questions, each once; empty where each explainer asks its own.
    wanted
        By explainer, then question.

    Raises
    ------
    TargetError
        If a class is unknown.
    """

    def __init__(
        self,
        subject: ImageRequest,
        asked: Sequence[NamedExplainer],
        classes: Sequence[str] | None,
        count: int | None,
        truth: GroundTruth | None = None,
    ) -> None:
        count = count or 2
        if isinstance(truth, str | int):
            find_class(truth, classes, count)
        found: dict[str, Target] = {}
        for target in subject.targets:
            found.setdefault(target.with_indices(classes, count).key, target)
        self.subject, self.truth = subject, truth
        self.targets = tuple(found.values())
        self.asked = list(asked)
        self.wanted: list[MapRequest] = []
        names = Names()
        for one in asked:
            for turn, target in enumerate(self.targets or one.targets(subject)):
                if one.explainer.class_specific:
                    stem = f"{one.stem}.{_name(target, classes, count)}"
                    self.wanted.append(MapRequest(one, turn, names.fresh(stem)))
                elif turn == 0:
                    self.wanted.append(MapRequest(one, turn, names.fresh(one.stem)))

    def alone(self, turn: int) -> MapPlan:
        """Return the plan for one of the questions."""
        plan = copy(self)
        plan.targets = (self.targets[turn],)
        plan.wanted = [replace(one, turn=0) for one in self.wanted if one.turn == turn]
        return plan


def _name(target: Target, classes: Sequence[str] | None, count: int) -> str:
    """Return what files about a target are called."""
    if target.asked:
        return slug(target.asked) or "target"
    named = copy(target)
    for name in target.class_fields:
        index = find_class(getattr(target, name), classes, count)
        object.__setattr__(named, name, str(index) if classes is None else classes[index])
    return slug(named.key) or "target"
