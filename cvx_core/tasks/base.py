"""Task: what the output of a model means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from cvx_core.errors import ModelError, UsageError, install_command
from cvx_core.images.regions import Frame, Region
from cvx_core.tasks.classes import ClassEntry, TargetRecord
from cvx_core.tasks.ground_truth import (
    GroundTruth,
    GroundTruthBoxes,
    GroundTruthMask,
    read_annotations,
)
from cvx_core.tasks.outputs import Classes, ModelOutput, shape_of
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.targets import Target

Readout = Callable[[Any], Any]
"""From what the model returned to what its task parses: scores or candidates, with their graph."""


@dataclass(frozen=True)
class Judgement:
    """Margin and correctness of another prediction, for one mistake.

    Attributes
    ----------
    margin
        By how much it is wrong, in logits, for the same predicted and true class; positive while
        the wrong one scores higher.
    right
        Whether the mistake is gone. A negative margin alone does not mean so: a third class may
        score highest.
    note
        A remark for the reader, as "63 % of its pixels became cat."; may be empty.
    """

    margin: float
    right: bool
    note: str = ""


@dataclass(frozen=True)
class Mistake(ABC):
    """One mistake of a model on one image.

    Attributes
    ----------
    type
        Its kind, as in ``"misclassified"``.
    target
        The target that explains it: its seed is the gradient of the margin.
    region
        The part of the image that it is about; None for all of it.
    predicted, true
        The predicted and the true class, with scores; None where there is none.
    loss
        Cross-entropy in nats, 0 or more; 1 - IoU where a box is misplaced.
    margin
        By how much the prediction is wrong, in logits (in IoU where a box is misplaced); positive
        while it is.
    """

    type: str
    target: Target
    region: Region | None
    predicted: ClassEntry | None
    true: ClassEntry | None
    loss: float
    margin: float

    @property
    def text(self) -> str:
        """The mistake in words, as in ``misclassified: power drill and not screwdriver``."""
        # A misplaced box has the true class.
        names = [one.name for one in (self.predicted, self.true) if one is not None]
        return ": ".join([self.type, *([" and not ".join(dict.fromkeys(names))] if names else [])])

    @abstractmethod
    def judge(self, prediction: Prediction) -> Judgement:
        """Return what another prediction makes of this mistake.

        Parameters
        ----------
        prediction
            The same model's, for the image after an intervention.
        """


class Task(ABC):
    """Meaning of a model's output: how it is parsed, predicted from and compared.

    A task may have parameters, as in ``VisionModel(net, task=Regression(unit="years"))`` or
    ``task="regression:unit=years"``.

    Attributes
    ----------
    name
        As in ``VisionModel(task=...)``.
    whole_image
        Whether there is one prediction for the whole image, whatever the target.
    exclusive
        Whether exactly one class is right for an image, so that classes compete.
    pyramid
        Whether a prediction may depend on several layers side by side, as on the levels of a
        feature pyramid, rather than on one last layer with a grid.
    output_parts
        How many `ModelOutput.parts` there are.
    label_axes
        Axes of the ground truth of one image where it is an array: 0 for a class, 2 for a mask;
        None where it is none.
    label_form
        What ``--label`` takes, as in ``CLASS``.
    unit
        Unit of the outputs, which maps are in.
    ground_truth
        Type of the ground truth: `GroundTruthMask`, `GroundTruthBoxes`, an array of values, or
        ``str`` where text holds it.
    columns
        Columns that the task adds to the rows of a data set, by name, with their types: ``int``,
        ``float``, ``bool``, ``numpy.float16`` for one number a class, a tuple of types for a fixed
        length, a list of one type for any length, a mapping for a record. See `row`.
    activation
        Final activation of networks of the task that makes probabilities of logits: ``softmax`` or
        ``sigmoid``. It is left out of a network that ends in it. Empty where the outputs are
        values.
    target_forms
        First words of the task's own targets, each with what follows it; see `parse_target`.
    """

    name: ClassVar[str]
    label_axes: ClassVar[int | None] = None
    whole_image: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False
    pyramid: ClassVar[bool] = True
    output_parts: ClassVar[int] = 1
    label_form: ClassVar[str] = "FILE"
    unit: str = "logits"
    activation: str = ""
    target_forms: ClassVar[Mapping[str, str]] = {}
    ground_truth: ClassVar[type] = str
    columns: ClassVar[Mapping[str, Any]] = {}

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def readout(self, output: Any, classes: Classes = None) -> Any:
        """Return the scores or candidates in what a module returned, with their graph.

        Parameters
        ----------
        output
            What the module returned.
        classes
            Names of the model's classes, or their number; None if it is unknown.

        Raises
        ------
        ModelError
            If there are none, or several readings are possible.
        """

    @abstractmethod
    def parse(self, found: Any) -> ModelOutput:
        """Return what a readout found as a `ModelOutput`.

        Raises
        ------
        ModelError
            If it doesn't have the task's shape.
        """

    @abstractmethod
    def predictions(
        self, output: ModelOutput, classes: Sequence[str] | None, frames: Sequence[Frame]
    ) -> list[Prediction]:
        """Return the prediction for each image, which targets are resolved against."""

    @abstractmethod
    def link(self, output: ModelOutput) -> Tensor:
        """Return what the outputs mean, (B, N), with their graph.

        Probabilities where the outputs are logits, values as they are, in the order of
        `ModelOutput.flat`: explainers and measures that ask for a probability use it.
        """

    def probability_of(
        self, seed: Tensor, output: ModelOutput
    ) -> Callable[[ModelOutput], Tensor] | None:
        """Return the probability of what a seed is about, as a function of other outputs.

        Parameters
        ----------
        seed
            (N,), over the outputs of one image.
        output
            Of that image, a batch of one.

        Returns
        -------
        function from the output for changed versions of the image to (n,), in [0, 1]
            None if the seed is not about one class, or the outputs are values.
        """
        if not self.activation:
            return None
        shape = output.scores.shape[1:]
        classes = seed.view(shape).flatten(1).any(1) if len(shape) > 1 else seed != 0
        if int(classes.sum()) != 1 or bool((seed < 0).any()):
            return None
        weights = seed.double() / seed.sum()
        return lambda other: self.link(other).double() @ weights

    @abstractmethod
    def mistakes(self, prediction: Any, ground_truth: GroundTruth) -> list[Mistake]:
        """Return the mistakes of a prediction, the most costly first."""

    def parse_target(self, word: str, rest: str) -> Target | None:
        """Read a target of the task's own, as written on the command line; None if it is none.

        Parameters
        ----------
        word, rest
            The first word, such as ``box``, and what follows it.

        Raises
        ------
        TargetError
            If it can't be read.
        """
        return None

    def read_label(
        self,
        label: GroundTruth,
        image: str | Path,
        classes: Sequence[str] | None,
        count: int | None = None,
    ) -> GroundTruth:
        """Return the ground truth of an image from what ``--label`` or a data set gives.

        Parameters
        ----------
        label
            Text, which for `GroundTruthMask` and `GroundTruthBoxes` is the path of a file;
            anything else is taken as it is.
        image
            The image, by path or name: COCO's file tells images by name.
        classes, count
            The model's class names, and their number if it is known.

        Raises
        ------
        InputError, TargetError
            If it can't be read, or names an unknown class.
        """
        if isinstance(label, str) and self.ground_truth in (GroundTruthMask, GroundTruthBoxes):
            return read_annotations(label, self.ground_truth, image, classes)
        return label

    def row(self, prediction: Any, ground_truth: GroundTruth | None) -> dict[str, Any]:
        """Return a prediction as a row of a data set, compared with the ground truth if known.

        Returns
        -------
        dict
            ``confidence``, in [0, 1] or None; ``loss`` and ``margin`` where they are not those of
            the mistakes; ``predicted`` and ``label``, indices of classes, where each image has one;
            and the task's own `columns`.
        """
        _, record = prediction.resolve_predicted(None)
        return {"confidence": record.predicted.probability}

    def as_ground_truth(self, label: Any) -> GroundTruth:
        """Return the ground truth of one image in the task's form, from a usual one.

        As from a tensor with one number, or the dictionary that a data set gives.
        """
        return label.item() if getattr(label, "ndim", None) == 0 else label

    def labels_per_image(self, label: Any, count: int) -> list[GroundTruth | None]:
        """Return the ground truth of each image, from one for all, or one for each.

        Parameters
        ----------
        label
            One, which goes to all images; a list with one for each, and None where it is unknown;
            or a tensor or an array with an axis of images before the `label_axes`.
        count
            Number of images.

        Raises
        ------
        UsageError
            If there are not as many labels as images.
        """
        axes = getattr(label, "ndim", None)
        if self.label_axes is not None and axes == self.label_axes + 1:
            label = list(label)
        if not isinstance(label, list | tuple):
            return [None if label is None else self.as_ground_truth(label)] * count
        if len(label) != count:
            raise UsageError(
                f"There are {count} images and {len(label)} labels.",
                "Give one label for all images, or one for each (None where it is unknown).",
            )
        return [None if one is None else self.as_ground_truth(one) for one in label]

    def summary(self, record: TargetRecord) -> str:
        """Return the prediction in a line, and whether it is right."""
        return f"{record.predicted.text}{_verdict(record)}"

    def scores(self, found: Any, shape: str, least: int = 2) -> ModelOutput:
        """Return a tensor of scores as an output; `shape` is that of the task, as in ``(B, C)``.

        Raises
        ------
        ModelError
            If it has another number of dimensions, or fewer than `least` classes.
        """
        if getattr(found, "ndim", 0) != shape.count(",") + 1:
            raise self.wrong_shape(shape_of(found), shape)
        output = ModelOutput(found)
        if output.classes < least:
            raise ModelError(
                "The model has a single output: a value, or the logit of one of two classes.",
                f"For a value pass task='regression' ({install_command('cvx-regression')}); for a "
                "logit readout=lambda z: torch.cat([-z, z], 1) / 2.",
            )
        return output

    def wrong_shape(self, got: str, expected: str) -> ModelError:
        """Return the refusal of a readout that does not fit the task."""
        return ModelError(
            f"The readout gave {got} for a model whose task is {self.name}.",
            f"It gives {expected} there; is task=... right?",
        )


def _verdict(record: TargetRecord) -> str:
    truth = record.truth or (record.label.text if record.label else "")
    if record.correct is None:
        return f" (true: {truth})" if truth else ""
    return " (correct)" if record.correct else f" (wrong; label: {truth})"
