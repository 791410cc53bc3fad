"""Built-in tasks, and the mistakes of any prediction."""

from __future__ import annotations

from collections.abc import Mapping

from cvx_core.errors import TargetError
from cvx_core.tasks.base import Mistake, Task
from cvx_core.tasks.classification.task import Classification
from cvx_core.tasks.detection.task import Detection
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.segmentation.task import Segmentation

TASKS: Mapping[str, Task] = {
    task.name: task for task in (Classification(), Segmentation(), Detection())
}


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
    task = TASKS.get(getattr(prediction, "task", ""))
    if task is None:
        raise TargetError(
            f"Mistakes of a {type(prediction).__name__} are not known.",
            "Give one of model.predict(images).",
        )
    return task.mistakes(prediction, ground_truth)
