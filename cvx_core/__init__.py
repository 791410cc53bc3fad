"""cvx explains what a PyTorch vision model looks at and why it is wrong.

Names are imported when they are first used, so that ``import cvx_core`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "cvx_core.answers": ("Answer",),
    "cvx_core.api": ("explain", "get_engine", "get_explainer", "get_renderer", "register"),
    "cvx_core.component": ("Component",),
    "cvx_core.compose": ("contrast", "layers", "mean", "product", "rectify", "smooth"),
    "cvx_core.detections": ("Detections",),
    "cvx_core.engine": ("Engine", "Listener", "Work"),
    "cvx_core.error_case": ("ErrorCase", "Judgement"),
    "cvx_core.error_cases": ("errors_of",),
    "cvx_core.error_cases.detection": ("BoxError",),
    "cvx_core.error_cases.lost": ("without_stage",),
    "cvx_core.error_cases.segmentation": ("PixelError", "segmentation_errors"),
    "cvx_core.error_cases.tide": ("TideReport", "tide"),
    "cvx_core.errors": (
        "CheckpointError",
        "ConflictError",
        "CvxError",
        "InputError",
        "LayerError",
        "MethodError",
        "ModelError",
        "OptionError",
        "OutputError",
        "PluginError",
        "TargetError",
        "UnknownComponentError",
        "UsageError",
    ),
    "cvx_core.explainer": ("Attribution", "Explainer"),
    "cvx_core.explanation": ("Artifact", "Explanation"),
    "cvx_core.hookspecs": ("hookimpl",),
    "cvx_core.model_source": ("ModelEntry", "ModelSource", "list_models", "load_model"),
    "cvx_core.parts": (
        "BoxScore",
        "ComponentScore",
        "Lost",
        "Missed",
        "PixelScore",
        "RegionScore",
        "lost_stage",
    ),
    "cvx_core.pixels": ("PixelScores",),
    "cvx_core.preprocessing": ("Preprocess",),
    "cvx_core.question": ("Question",),
    "cvx_core.reading": ("Candidates",),
    "cvx_core.record": ("Record",),
    "cvx_core.recording": ("Needs", "Recording"),
    "cvx_core.regions": ("Box", "Frame", "MaskRegion", "Polygon", "Region", "read_mask"),
    "cvx_core.renderer": ("Renderer",),
    "cvx_core.scores": ("ClassEntry", "Detection", "Scores", "TargetRecord"),
    "cvx_core.storage": ("load_explanations",),
    "cvx_core.target": (
        "ClassScore",
        "Contrast",
        "Distribution",
        "Error",
        "Margin",
        "Predicted",
        "Target",
        "parse_target",
    ),
    "cvx_core.truth": ("TrueBox", "TrueBoxes", "TrueClasses"),
    "cvx_core.truth_files": ("read_truth",),
    "cvx_core.version": ("__version__",),
    "cvx_core.vision_model": ("VisionModel",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "Artifact",
    "Attribution",
    "Box",
    "BoxError",
    "BoxScore",
    "Candidates",
    "CheckpointError",
    "ClassEntry",
    "ClassScore",
    "Component",
    "ComponentScore",
    "ConflictError",
    "Contrast",
    "CvxError",
    "Detection",
    "Detections",
    "Distribution",
    "Engine",
    "Error",
    "ErrorCase",
    "Explainer",
    "Explanation",
    "Frame",
    "InputError",
    "Judgement",
    "LayerError",
    "Listener",
    "Lost",
    "Margin",
    "MaskRegion",
    "MethodError",
    "Missed",
    "ModelEntry",
    "ModelError",
    "ModelSource",
    "Needs",
    "OptionError",
    "OutputError",
    "PixelError",
    "PixelScore",
    "PixelScores",
    "PluginError",
    "Polygon",
    "Predicted",
    "Preprocess",
    "Question",
    "Record",
    "Recording",
    "Region",
    "RegionScore",
    "Renderer",
    "Scores",
    "Target",
    "TargetError",
    "TargetRecord",
    "TideReport",
    "TrueBox",
    "TrueBoxes",
    "TrueClasses",
    "UnknownComponentError",
    "UsageError",
    "VisionModel",
    "Work",
    "__version__",
    "contrast",
    "errors_of",
    "explain",
    "get_engine",
    "get_explainer",
    "get_renderer",
    "hookimpl",
    "layers",
    "list_models",
    "load_explanations",
    "load_model",
    "lost_stage",
    "mean",
    "parse_target",
    "product",
    "read_mask",
    "read_truth",
    "rectify",
    "register",
    "segmentation_errors",
    "smooth",
    "tide",
    "without_stage",
]

if TYPE_CHECKING:
    from cvx_core.answers import Answer
    from cvx_core.api import explain, get_engine, get_explainer, get_renderer, register
    from cvx_core.component import Component
    from cvx_core.compose import contrast, layers, mean, product, rectify, smooth
    from cvx_core.detections import Detections
    from cvx_core.engine import Engine, Listener, Work
    from cvx_core.error_case import ErrorCase, Judgement
    from cvx_core.error_cases import errors_of
    from cvx_core.error_cases.detection import BoxError
    from cvx_core.error_cases.lost import without_stage
    from cvx_core.error_cases.segmentation import PixelError, segmentation_errors
    from cvx_core.error_cases.tide import TideReport, tide
    from cvx_core.errors import (
        CheckpointError,
        ConflictError,
        CvxError,
        InputError,
        LayerError,
        MethodError,
        ModelError,
        OptionError,
        OutputError,
        PluginError,
        TargetError,
        UnknownComponentError,
        UsageError,
    )
    from cvx_core.explainer import Attribution, Explainer
    from cvx_core.explanation import Artifact, Explanation
    from cvx_core.hookspecs import hookimpl
    from cvx_core.model_source import ModelEntry, ModelSource, list_models, load_model
    from cvx_core.parts import (
        BoxScore,
        ComponentScore,
        Lost,
        Missed,
        PixelScore,
        RegionScore,
        lost_stage,
    )
    from cvx_core.pixels import PixelScores
    from cvx_core.preprocessing import Preprocess
    from cvx_core.question import Question
    from cvx_core.reading import Candidates
    from cvx_core.record import Record
    from cvx_core.recording import Needs, Recording
    from cvx_core.regions import Box, Frame, MaskRegion, Polygon, Region, read_mask
    from cvx_core.renderer import Renderer
    from cvx_core.scores import ClassEntry, Detection, Scores, TargetRecord
    from cvx_core.storage import load_explanations
    from cvx_core.target import (
        ClassScore,
        Contrast,
        Distribution,
        Error,
        Margin,
        Predicted,
        Target,
        parse_target,
    )
    from cvx_core.truth import TrueBox, TrueBoxes, TrueClasses
    from cvx_core.truth_files import read_truth
    from cvx_core.version import __version__
    from cvx_core.vision_model import VisionModel


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        from cvx_core.verb_functions import verb_function

        return verb_function(name)
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
