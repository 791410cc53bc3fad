"""The errors of an answer, whatever the task: what each asks, and who judges it when it is mended.

`cvx_core.error_case` says what an error case is; here are those of segmenters and detectors.
"""

from __future__ import annotations

from cvx_core.errors import TargetError
from cvx_core.tasks.classification.mistakes import classification_mistakes
from cvx_core.tasks.classification.prediction import ClassificationPrediction
from cvx_core.tasks.detection.mistakes import detection_mistakes
from cvx_core.tasks.detection.prediction import DetectionPrediction
from cvx_core.tasks.ground_truth import GroundTruth, GroundTruthBoxes, GroundTruthMask
from cvx_core.tasks.mistakes import Mistake
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.segmentation.mistakes import segmentation_mistakes
from cvx_core.tasks.segmentation.prediction import SegmentationPrediction

__all__ = ["find_mistakes"]


def find_mistakes(answer: Prediction, truth: GroundTruth) -> list[Mistake]:
    """Return the errors of a model's answer for one image, the most costly first.

    Parameters
    ----------
    answer
        One of `VisionModel.predict`.
    truth
        A class by name or index of a classifier's image, `GroundTruthMask` of a segmenter's,
        `GroundTruthBoxes` of a detector's; `read_ground_truth` reads them from files.

    Returns
    -------
    list of Mistake
        None if the answer is right. See `classification_mistakes`, `segmentation_mistakes` and
        `detection_mistakes` for what they are, and for what can be set.

    Raises
    ------
    TargetError
        If the truth is not of the answer's kind, or names a class that the model hasn't.

    Examples
    --------
    >>> import numpy as np
    >>> from cvx_core import ClassificationPrediction
    >>> [case] = find_mistakes(ClassificationPrediction(np.array([1.0, 3.0]), ["cat", "dog"]), "cat")
    >>> case.text, case.judge(ClassificationPrediction(np.array([2.0, 1.5]), ["cat", "dog"])).right
    ('misclassified: dog and not cat', True)
    """
    if isinstance(answer, SegmentationPrediction):
        return segmentation_mistakes(answer, truth)
    if isinstance(answer, DetectionPrediction):
        return detection_mistakes(answer, truth)
    if not isinstance(answer, ClassificationPrediction):
        raise TargetError(
            f"The errors of a {type(answer).__name__} are not known.",
            "Give one of model.predict(images).",
        )
    if isinstance(truth, GroundTruthMask | GroundTruthBoxes):
        raise TargetError(
            "The truth of a classifier's image is a class.", "Pass its name or its index."
        )
    return classification_mistakes(answer, truth)
