from .base import (
    Judgement as Judgement,
    Mistake as Mistake,
    Readout as Readout,
    Task as Task,
)
from .catalogue import (
    as_target as as_target,
    find_mistakes as find_mistakes,
    get_task as get_task,
    image_label as image_label,
    labels_per_image as labels_per_image,
    parse_target as parse_target,
)
from .classes import (
    ClassEntry as ClassEntry,
    ClassRef as ClassRef,
    Detection as Detection,
    TargetRecord as TargetRecord,
    background as background,
    find_class as find_class,
)
from .classification.mistakes import Misclassified as Misclassified
from .classification.prediction import ClassificationPrediction as ClassificationPrediction
from .detection.assignment import TYPES as TYPES, Assignment as Assignment, assign as assign
from .detection.candidates import (
    DetectionCandidates as DetectionCandidates,
    DetectionOutput as DetectionOutput,
)
from .detection.mistakes import cases_of as cases_of
from .detection.output import detection as detection
from .detection.prediction import DetectionPrediction as DetectionPrediction, overlaps as overlaps
from .detection.task import MOST_CANDIDATES as MOST_CANDIDATES, REPORTED_FROM as REPORTED_FROM
from .ground_truth import (
    LABEL_COLUMNS as LABEL_COLUMNS,
    PATH_COLUMNS as PATH_COLUMNS,
    TEXT_TABLES as TEXT_TABLES,
    UNKNOWN as UNKNOWN,
    GroundTruth as GroundTruth,
    GroundTruthBox as GroundTruthBox,
    GroundTruthBoxes as GroundTruthBoxes,
    GroundTruthMask as GroundTruthMask,
    delimiter as delimiter,
    find_column as find_column,
    read_annotations as read_annotations,
)
from .outputs import (
    Classes as Classes,
    ModelOutput as ModelOutput,
    find_named as find_named,
    read_scores as read_scores,
)
from .prediction import (
    Prediction as Prediction,
    Resolved as Resolved,
    Seed as Seed,
    VectorPrediction as VectorPrediction,
    check_finite as check_finite,
    required_label as required_label,
)
from .targets import (
    ClassScore as ClassScore,
    Contrast as Contrast,
    Predicted as Predicted,
    Target as Target,
)
