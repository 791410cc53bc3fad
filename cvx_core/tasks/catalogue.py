"""Tasks by name: those of the core and those of plugins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cvx_core.errors import PluginError, TargetError, UnknownComponentError, UsageError
from cvx_core.plugins.discovery import registry
from cvx_core.plugins.isolation import REPORT
from cvx_core.plugins.parameters import build, parse_parameters
from cvx_core.tasks.base import Mistake, Task
from cvx_core.tasks.classification.task import Classification
from cvx_core.tasks.detection.task import Detection
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.segmentation.task import Segmentation

_OWN: dict[str, Task] = {
    task.name: task for task in (Classification(), Segmentation(), Detection())
}
"""Tasks of the core, which need no discovery of plugins."""

DEFAULT_TASK = Classification.name


def get_task(task: str | Task) -> Task:
    """Return a task by name, with parameters as in ``regression:unit=years``.

    Parameters
    ----------
    task
        A name as listed by ``cvx plugins``, or a task, which is returned as it is.

    Raises
    ------
    UsageError
        If no installed plugin offers it.
    OptionError
        If a parameter is unknown or refused.
    """
    if isinstance(task, Task):
        return task
    if task in _OWN:
        return _OWN[task]
    name, parameters = parse_parameters(task) if ":" in task else (task, {})
    try:
        made = build("task", registry().find("task", name), parameters)
    except UnknownComponentError as error:
        raise UsageError(f"There is no task {name!r}.", error.hint) from error
    if not isinstance(made, Task):
        raise PluginError(f"The task {name!r} is a {type(made).__name__}, not a Task.", REPORT)
    return made


def find_mistakes(
    prediction: Prediction, ground_truth: GroundTruth, task: str | Task | None = None
) -> list[Mistake]:
    """Return the mistakes of a model on one image, the most costly first.

    Parameters
    ----------
    prediction
        One of `VisionModel.predict`.
    ground_truth
        A class by name or index of a classifier's image, `GroundTruthMask` of a segmenter's,
        `GroundTruthBoxes` of a detector's; `read_ground_truth` reads them from files.
    task
        The model's, where it has parameters; by default the one that the prediction names.

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
    if task is None and not isinstance(prediction, Prediction):
        raise TargetError(
            f"Mistakes of a {type(prediction).__name__} are not known.",
            "Give one of model.predict(images).",
        )
    return get_task(prediction.task if task is None else task).mistakes(prediction, ground_truth)


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
    return get_task(task).read_label(str(path), image, classes)
