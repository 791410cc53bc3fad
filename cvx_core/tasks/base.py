"""Task: what the output of a model means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from cvx_core.errors import ModelError
from cvx_core.images.regions import Frame, Region
from cvx_core.tasks.classes import ClassEntry, TargetRecord
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.prediction import Prediction
from cvx_core.tasks.targets import Target

Readout = Callable[[Any], Any]
"""From what the model returned to what its task parses: scores or candidates, with their graph."""


_NAMES = ("logits", "out", "scores", "prediction")


def find_named(output: Any, name: str) -> Any:
    """Return an entry of a mapping or an attribute of an object; None if it has none."""
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def find_scores(output: Any) -> Tensor | None:
    """Return the tensor of scores in what a model returned, by its usual names or as the first."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        named = [output[name] for name in _NAMES if name in output]
        return _first_tensor(named or list(output.values()))
    for name in _NAMES:
        if isinstance(getattr(output, name, None), Tensor):
            found: Tensor = getattr(output, name)
            return found
    if isinstance(output, tuple | list):
        return _first_tensor(output)
    return None


def _first_tensor(items: Any) -> Tensor | None:
    return next((item for item in items if isinstance(item, Tensor)), None)


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """Parsed output of a model for a batch.

    Attributes
    ----------
    scores
        Logits (B, C, ...), unless a subclass says otherwise.
    """

    scores: Tensor

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.scores.shape[1]

    @property
    def named(self) -> int:
        """How many of the classes have names."""
        return self.classes

    @property
    def flat(self) -> Tensor:
        """All outputs (B, N), with their graph: what seeds are vectors over."""
        return self.scores.flatten(1)

    def rows(self, start: int, stop: int) -> ModelOutput:
        """Return the output of some images of the batch."""
        return ModelOutput(self.scores[start:stop])

    def detached(self) -> ModelOutput:
        """Return the output without its graph."""
        return ModelOutput(self.scores.detach())


@dataclass(frozen=True)
class Judgement:
    """How another prediction changes a mistake.

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
        return f"{self.type}: {' and not '.join(dict.fromkeys(names))}"

    @abstractmethod
    def judge(self, prediction: Prediction) -> Judgement:
        """Return what another prediction makes of this mistake.

        Parameters
        ----------
        prediction
            The same model's, for the image after an intervention.
        """


class Task(ABC):
    """What the output of a model means: how it is parsed, predicted from and compared.

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
    label_form
        What ``--label`` takes, as in ``CLASS``.
    unit
        Unit of the outputs, which maps are in.
    """

    name: ClassVar[str]
    whole_image: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False
    pyramid: ClassVar[bool] = True
    label_form: ClassVar[str] = "FILE"
    unit: str = "logits"

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def readout(self, output: Any) -> Any:
        """Return the scores or candidates in what a module returned, with their graph."""

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
            None if the seed is not about one class, or its outputs have no probability.
        """
        shape = output.scores.shape[1:]
        classes = seed.view(shape).flatten(1).any(1) if len(shape) > 1 else seed != 0
        if int(classes.sum()) != 1 or bool((seed < 0).any()):
            return None
        weights = seed.double() / seed.sum()
        return lambda other: self.link(other).double() @ weights

    @abstractmethod
    def mistakes(self, prediction: Any, ground_truth: GroundTruth) -> list[Mistake]:
        """Return the mistakes of a prediction, the most costly first."""

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
            Text, as the path of a file; anything else is taken as it is.
        image
            The image, by path or name: COCO's file tells images by name.
        classes, count
            The model's class names, and their number if it is known.

        Raises
        ------
        InputError, TargetError
            If it can't be read, or names an unknown class.
        """
        return label

    def summary(self, record: TargetRecord) -> str:
        """Return the prediction in a line, and whether it is right."""
        return f"{record.predicted.text}{_verdict(record)}"

    def scores(self, found: Any, shape: str) -> ModelOutput:
        """Return a tensor of scores as an output; `shape` is that of the task, as in ``(B, C)``.

        Raises
        ------
        ModelError
            If it has another number of dimensions, or fewer than two classes.
        """
        if getattr(found, "ndim", 0) != shape.count(",") + 1:
            raise self.wrong_shape(shape_of(found), shape)
        output = ModelOutput(found)
        if output.classes < 2:
            raise ModelError(
                "The model has a single output, and a classifier needs two or more.",
                "Pass readout=lambda z: torch.cat([-z, z], 1) / 2 for a binary logit.",
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
    return " (right)" if record.correct else f" (wrong, it is {truth})"


def shape_of(found: Any) -> str:
    """Return what a readout gave, for people."""
    return str(tuple(found.shape)) if hasattr(found, "shape") else "candidates"
