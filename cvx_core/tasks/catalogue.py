"""Tasks by name, and what is read for them: ground truth, mistakes, targets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from cvx_core._util.text import shortened
from cvx_core.errors import CvxError, PluginError, TargetError, UnknownComponentError, UsageError
from cvx_core.plugins.discovery import registry
from cvx_core.plugins.isolation import REPORT
from cvx_core.plugins.parameters import build, parse_parameters
from cvx_core.tasks.base import Mistake, Task
from cvx_core.tasks.classes import ClassRef
from cvx_core.tasks.classification.task import Classification
from cvx_core.tasks.detection.task import Detection
from cvx_core.tasks.ground_truth import GroundTruth, Names, by_name, label_of, plain
from cvx_core.tasks.prediction import Prediction, Resolved, required_label
from cvx_core.tasks.segmentation.task import Segmentation
from cvx_core.tasks.targets import (
    NUMBER,
    ClassScore,
    Contrast,
    Distribution,
    Error,
    Margin,
    Predicted,
    Target,
)

_OWN: dict[str, Task] = {
    task.name: task for task in (Classification(), Segmentation(), Detection())
}
"""Tasks of the core, which need no discovery of plugins."""

DEFAULT_TASK = Classification.name

_used: WeakValueDictionary[str, Task] = WeakValueDictionary()
"""Tasks that models of this process have and that no plugin needs to offer, by name."""


def get_task(task: str | Task) -> Task:
    """Return a task by name, with parameters as in ``regression:unit=years``.

    Parameters
    ----------
    task
        A name as listed by ``cvx plugins`` or of a task that a model of this process has; or a
        task, which is returned as it is.

    Raises
    ------
    UsageError
        If no installed plugin offers it.
    OptionError
        If a parameter is unknown or refused.
    """
    if isinstance(task, Task):
        _used[task.name] = task
        return task
    if task in _OWN:
        return _OWN[task]
    name, parameters = parse_parameters(task) if ":" in task else (task, {})
    try:
        made = build("task", registry().find("task", name), parameters)
    except UnknownComponentError as error:
        if name in _used and not parameters:
            return _used[name]
        own = ", ".join(_OWN)
        raise UsageError(f"Unknown task {name!r}.", f"The core has {own}. {error.hint}") from error
    if not isinstance(made, Task):
        raise PluginError(f"The task {name!r} is a {type(made).__name__}, not a Task.", REPORT)
    return made


def installed_tasks() -> Iterator[Task]:
    """Yield all tasks, those of the core first; a plugin's with its default parameters.

    One that can't be built, or has no default, is left out: it is named where it is used.
    """
    yield from _OWN.values()
    for offer in registry().offers("task"):
        with suppress(CvxError):
            yield get_task(f"{offer.component.name}@{offer.distribution}")


def find_mistakes(prediction: Prediction, ground_truth: GroundTruth) -> list[Mistake]:
    """Return the mistakes of a model on one image, the most costly first.

    Parameters
    ----------
    prediction
        One of `VisionModel.predict`.
    ground_truth
        A class by name or index of a classifier's image, `GroundTruthMask` of a segmenter's,
        `GroundTruthBoxes` of a detector's; `read_ground_truth` reads them from files.

    Returns
    -------
    list of Mistake
        Empty if the prediction is correct. See `classification_mistakes`, `segmentation_mistakes`
        and `detection_mistakes` for their kinds and options.

    Raises
    ------
    TargetError
        If the ground truth is not of the task's kind, or names a class unknown to the model.

    Examples
    --------
    >>> import numpy as np
    >>> from cvx_core import ClassificationPrediction
    >>> wrong = ClassificationPrediction(np.array([1.0, 3.0]), ["cat", "dog"])
    >>> [case] = find_mistakes(wrong, "cat")
    >>> case.text, case.judge(ClassificationPrediction(np.array([2.0, 1.5]), ["cat", "dog"])).right
    ('misclassified: dog and not cat', True)
    """
    if not isinstance(prediction, Prediction):
        raise TargetError(
            f"find_mistakes takes a prediction of a model, got {type(prediction).__name__}.",
            "Give one of model.predict(images).",
        )
    return get_task(prediction.task).mistakes(prediction, ground_truth)


@dataclass(frozen=True)
class MistakeTarget(Target):
    """One mistake of a prediction, by its index in `find_mistakes`.

    Parameters
    ----------
    index
        Its number; the most costly is 0.
    label
        The ground truth, in the form of the task.
    """

    index: int = 0
    label: GroundTruth | None = None
    needs_label = True

    @property
    def asked(self) -> str:
        """As in ``error 1``."""
        return f"error {self.index}"

    def resolve(self, prediction: Prediction, label: Any = None) -> Resolved:
        """Return the seed of the mistake.

        Raises
        ------
        TargetError
            If there is no ground truth, or no such mistake.
        """
        truth = required_label(label if self.label is None else self.label, self.asked)
        mistakes = find_mistakes(prediction, truth)
        if self.index >= len(mistakes):
            raise TargetError(
                f"There is no mistake {self.index}: the prediction has {len(mistakes)}.",
                f"index must be 0 to {len(mistakes) - 1}." if mistakes else "It is correct.",
            )
        seed, record = mistakes[self.index].target.resolve(prediction, truth)
        return seed, replace(record, asked=self.asked)


def read_ground_truth(
    path: str | Path,
    task: str | Task | Prediction,
    image: str | Path = "",
    classes: Sequence[str] | None = None,
) -> GroundTruth:
    """Return the ground truth of an image, from a file or as written on the command line.

    Parameters
    ----------
    path
        What the task takes: a class by name or index, several labels, a value, or a file. The
        installed reader decides which formats it reads; ``cvx-annotations`` reads COCO, Pascal VOC
        and YOLO files, and masks.
    task
        A model's task, or its prediction.
    image
        The image, by path or name.
    classes
        The model's class names.

    Raises
    ------
    InputError
        If the file can't be read or isn't what it should be, with line or annotation.
    UsageError
        If no reader is installed.
    """
    if isinstance(task, Prediction):
        classes = task.classes if classes is None else classes
        task = task.task
    return image_label(get_task(task), str(path), image, classes)


def image_label(
    task: Task,
    label: GroundTruth,
    image: str | Path,
    classes: Sequence[str] | None,
    count: int | None = None,
) -> GroundTruth | None:
    """Return the ground truth of one image from text; other values are returned unchanged.

    Parameters
    ----------
    label
        What the task takes; or where the labels of all images are, see `label_of`.
    image, classes, count
        See `Task.read_label`.

    Returns
    -------
    The ground truth in the task's form; None where a CSV or an annotation file has none.

    Raises
    ------
    InputError, TargetError
        If it can't be read, or names an unknown class.
    """
    found = label_of(label, image, classes)
    return None if found is None else task.read_label(found, image, classes, count)


def labels_per_image(
    task: Task, label: Any, images: Sequence[Names], classes: Sequence[str] | None
) -> list[GroundTruth | None]:
    """Return the ground truth of each image.

    Parameters
    ----------
    label
        One for all images, or one for each: see `Task.labels_per_image`; or a mapping from names or
        paths of images. Text is read as on the command line.
    images
        Path and name of each image; empty where there is none.
    classes
        The model's class names.

    Raises
    ------
    UsageError, InputError, TargetError
        If the numbers differ, or a label can't be read.
    """
    labels = task.labels_per_image(by_name(label, images, "label"), len(images))
    return [
        image_label(task, one, names[0], classes) if isinstance(one, str | os.PathLike) else one
        for one, names in zip(labels, images, strict=True)
    ]


_WORDS: dict[str, type[Target]] = {
    "predicted": Predicted,
    "distribution": Distribution,
    "error": Error,
    "margin": Margin,
}


def parse_target(text: str) -> Target:
    """Read a target as written on the command line.

    ``predicted``, ``distribution``, ``error``, ``margin``, ``"tabby vs tiger cat"``, or a class by
    name or index; ``class:NAME`` is a class with the name of a keyword. ``"error 1"`` is the second
    most costly mistake. Parts of the image, in pixels of the image: ``"box 2"``,
    ``"box 120,40,260,300 dog"``, ``"missed 120,40,260,300 dog"``,
    ``"region 120,40,260,300 person"``, ``"region mask.png person"``, ``"pixel 120,40 person"``; the
    class may be left out except of what is missed. Plugins' tasks may add more.

    Raises
    ------
    TargetError
        If the text is empty or a side of a contrast is missing.
    """
    stripped = text.strip()
    if stripped.lower() in _WORDS:
        return _WORDS[stripped.lower()]()
    if numbered := re.fullmatch(r"error\s+(\d{1,4})", stripped, re.IGNORECASE):
        return MistakeTarget(int(numbered[1]))
    part = _parse_own(stripped)
    if part is not None:
        return part
    sides = re.split(r"\s+vs\.?\s+", stripped)
    if len(sides) == 2 and all(sides):
        return Contrast(*(side.removeprefix("class:") for side in sides))
    if not stripped or len(sides) > 2 or re.fullmatch(r"(vs\.?(\s.*)?)|(.*\svs\.?)", stripped):
        raise TargetError(
            f"Invalid target: {text!r}.",
            "Write predicted, distribution, error, margin, a class, or 'CLASS vs CLASS'.",
        )
    return ClassScore(stripped.removeprefix("class:"))


def as_target(given: Target | ClassRef) -> Target:
    """Return a target from what people write for one: text as for `parse_target`, or an index.

    Raises
    ------
    TargetError
        If it is something else.

    Examples
    --------
    >>> as_target(281), as_target("tabby vs tiger cat")
    (ClassScore(reference=281), Contrast(p='tabby', q='tiger cat'))
    """
    if isinstance(given, Target):
        return given
    if isinstance(given, str):
        return parse_target(given)
    index = plain(given)
    if isinstance(index, int) and not isinstance(index, bool):
        return ClassScore(index)
    raise TargetError(
        f"target must be a class name, an index or a Target, got {type(given).__name__}"
        f"{'' if isinstance(given, Sequence | Mapping) else f' {shortened(repr(given))}'}.",
        "Write 281, 'tabby', 'tabby vs tiger cat', or ClassScore('tabby').",
    )


def targets_per_image(
    target: Any, count: int, default: Target, names: Sequence[Names] = ()
) -> list[list[Target]]:
    """Return the targets of each image.

    Parameters
    ----------
    target
        One for all images; a list, tensor (B,) or array with one for each; or a mapping from names
        or paths of images. Instead of one, an image may have a list of targets, or the row of a
        tensor (B, k). None takes `default`, also for one image.
    count
        Number of images.
    names
        What each image may be called in a mapping.

    Raises
    ------
    UsageError
        If the numbers differ, or an image has no target.
    TargetError
        If a target can't be read.
    """
    if target is None:
        return [[default]] * count
    target = by_name(plain(target), names, "target")
    if not isinstance(target, list | tuple):
        return [[as_target(target)]] * count
    if len(target) != count:
        images = "1 image" if count == 1 else f"{count} images"
        raise UsageError(
            f"There {'is' if count == 1 else 'are'} {images} and {len(target)} targets.",
            "Give one target for all images, or one for each; several targets of one image are a "
            "list in the list, [[281, 282]].",
        )
    several = [list(one) if isinstance(one, list | tuple) else [one] for one in map(plain, target)]
    if not all(several):
        raise UsageError("An image has an empty list of targets.", "Pass None for the default.")
    return [[default if one is None else as_target(one) for one in each] for each in several]


def target_words() -> dict[str, str]:
    """Return the words by which targets begin, with what follows them.

    Examples
    --------
    >>> target_words()["pixel"]
    'X,Y'
    """
    words = dict.fromkeys(_WORDS, "")
    for task in installed_tasks():
        words |= task.target_forms
    return words


def _parse_own(text: str) -> Target | None:
    """Read a target of a task's own; None if it is none."""
    word, _, rest = text.partition(" ")
    if not rest.strip():
        return None
    for task in installed_tasks():
        if word not in task.target_forms:
            continue
        found = task.parse_target(word, rest.strip())
        if found is not None:
            return found
        if re.match(rf"{NUMBER}\s*,|\d{{10,}}(?:\s|$)", rest.strip()):
            form = f"{word} {task.target_forms[word]}"
            raise TargetError(f"{text[:200]!r} can't be read.", f"Write: {form}.")
    return None
