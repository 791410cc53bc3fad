"""Tasks of transformers' networks, and the readout of their outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from typing import Any

from transformers import (
    AutoModelForImageClassification,
    AutoModelForObjectDetection,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_MASK_GENERATION_MAPPING,
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
    MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING,
    MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING,
)

from cvx_core import DetectionCandidates, ModelError
from cvx_core.tasks import Readout, detection


@dataclass(frozen=True)
class Task:
    """A task of networks of transformers.

    Attributes
    ----------
    name
        Name of the task in cvx.
    auto
        Auto class that builds the networks.
    mapping
        Mapping from configuration types to model types.
    """

    name: str
    auto: Any
    mapping: Any

    def readout(self, config: Any, processor: Any) -> Readout | None:
        """Return the readout of the outputs; None for cvx's default.

        Parameters
        ----------
        config
            Configuration of the network.
        processor
            Its image processor, or None; defines the number of reported boxes.
        """
        if self.name != "detection":
            return None
        report = getattr(processor, "post_process_object_detection", None)
        limit = signature(report).parameters.get("top_k") if report else None
        return partial(detr, labels=config.num_labels, most=limit.default if limit else None)


TASKS = (
    Task("classification", AutoModelForImageClassification, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING),
    Task("segmentation", AutoModelForSemanticSegmentation, MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING),
    Task("detection", AutoModelForObjectDetection, MODEL_FOR_OBJECT_DETECTION_MAPPING),
    Task(
        "segmentation", AutoModelForUniversalSegmentation, MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING
    ),
)


_PROMPTED = (
    (
        MODEL_FOR_MASK_GENERATION_MAPPING,
        "masks what points or boxes in the image name",
        "the mask's logits (B, 1, h, w), with task='segmentation', "
        "classes=['background', 'object']",
    ),
    (
        MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING,
        "finds what words name",
        "cvx_core.DetectionCandidates, with task='detection'",
    ),
)


def check_prompts(config: Any) -> None:
    """Refuse networks that need a prompt beside the image, in words.

    Raises
    ------
    ModelError
        With what such a network needs, and what to do.
    """
    for mapping, does, returns in _PROMPTED:
        if type(config) in mapping:
            raise ModelError(
                f"A network of the type {config.model_type!r} {does}: it needs that prompt beside "
                "the image.",
                "Fix the prompt in a module of yours, forward(self, x): return self.net(x, "
                f"PROMPT), that returns {returns}: -m file.py:FACTORY.",
            )


def task_of(config: Any) -> Task | None:
    """Return the task that a configuration was saved for, or one that it supports; else None.

    One configuration may serve several networks; ``architectures`` names the one that was saved.
    """
    able = [task for task in TASKS if type(config) in task.mapping]
    saved = set(config.architectures or ())
    named = [task for task in able if saved & _networks(task.mapping[type(config)])]
    return next(iter([*named, *able]), None)


def built_for(network: Any) -> Task | None:
    """Return the task of a network, or None if it is none with a head that cvx reads."""
    config = getattr(network, "config", None)
    for task in TASKS:
        if type(config) in task.mapping:
            kinds = task.mapping[type(config)]
            if isinstance(network, kinds if isinstance(kinds, tuple) else (kinds,)):
                return task
    return None


def compares_texts(config: Any) -> bool:
    """Whether a configuration was saved for an image-text model, such as CLIP."""
    if type(config) not in MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING:
        return False
    network = MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING[type(config)]
    return bool(set(config.architectures or ()) & _networks(network))


def _networks(kinds: Any) -> set[str]:
    return {kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))}


def detr(output: Any, labels: int, most: int | None = None) -> DetectionCandidates:
    """Return the candidates in the output of a detector like DETR.

    With one output more than `labels`, that output means "no object" and the scores are a
    softmax (Carion 2020); otherwise each class is a sigmoid of its own (Zhu 2021), and `most`
    boxes are reported, by default one for each query.
    """
    found = detection(output, labels)
    return found if most is None or found.exclusive else replace(found, most=most)
