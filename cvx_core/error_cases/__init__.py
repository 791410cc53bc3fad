"""The errors of an answer, whatever the task: what each asks, and who judges it when it is mended.

`cvx_core.error_case` says what an error case is; here are those of segmenters and detectors.
"""

from __future__ import annotations

from cvx_core.answers import Answer
from cvx_core.detections import Detections
from cvx_core.error_case import ErrorCase, classification_errors
from cvx_core.error_cases.detection import detection_errors
from cvx_core.error_cases.segmentation import segmentation_errors
from cvx_core.errors import TargetError
from cvx_core.pixels import PixelScores
from cvx_core.scores import Scores
from cvx_core.truth import TrueBoxes, TrueClasses, Truth

__all__ = ["errors_of"]


def errors_of(answer: Answer, truth: Truth) -> list[ErrorCase]:
    """Return the errors of a model's answer for one image, the most costly first.

    Parameters
    ----------
    answer
        One of `VisionModel.answers`.
    truth
        A class by name or index of a classifier's image, `TrueClasses` of a segmenter's,
        `TrueBoxes` of a detector's; `read_truth` reads them from files.

    Returns
    -------
    list of ErrorCase
        None if the answer is right. See `classification_errors`, `segmentation_errors` and
        `detection_errors` for what they are, and for what can be set.

    Raises
    ------
    TargetError
        If the truth is not of the answer's kind, or names a class that the model hasn't.

    Examples
    --------
    >>> import numpy as np
    >>> from cvx_core import Scores
    >>> [case] = errors_of(Scores(np.array([1.0, 3.0]), ["cat", "dog"]), "cat")
    >>> case.text, case.judge(Scores(np.array([2.0, 1.5]), ["cat", "dog"])).right
    ('misclassified: dog and not cat', True)
    """
    if isinstance(answer, PixelScores):
        return segmentation_errors(answer, truth)
    if isinstance(answer, Detections):
        return detection_errors(answer, truth)
    if not isinstance(answer, Scores):
        raise TargetError(
            f"The errors of a {type(answer).__name__} are not known.",
            "Give one of model.answers(images).",
        )
    if isinstance(truth, TrueClasses | TrueBoxes):
        raise TargetError(
            "The truth of a classifier's image is a class.", "Pass its name or its index."
        )
    return classification_errors(answer, truth)
