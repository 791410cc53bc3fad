"""The contract of explainers, and how they are run.

An explainer says what it needs recorded (`requirements`) and turns recordings into maps (`attribute`).
The core reads the images, resolves the targets, opens the recordings, shares them between
explainers and targets, splits large batches, and assembles the explanations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from cvx_core.explanations.explanation import Explanation
from cvx_core.plugins.component import component_name
from cvx_core.plugins.parameters import parameters_of
from cvx_core.recording import Recording, Requirements
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.targets import Predicted, Target

if TYPE_CHECKING:
    from cvx_core.explainers.composition import Pipeline
    from cvx_core.explainers.request import ExplainRequest
    from cvx_core.models.vision_model import VisionModel


@dataclass(frozen=True, eq=False)
class Attribution:
    """Maps for one seed, as an explainer returns them.

    Attributes
    ----------
    values
        Tensor (B, h, w): one signed, unnormalised map for each image.
    evidence, provenance
        What vouches for the maps and how they came about. A tensor holds one value for each
        image and has the shape (B,), also inside a list of mappings, which is shown as a table;
        anything else goes to all of them.
    unit
        What a value counts, where it depends on the model; empty for the explainer's own.
    """

    values: torch.Tensor
    evidence: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""


class Explainer(ABC):
    """Propagates a seed back to a place and returns a signed, unnormalised map.

    Write an explainer as a frozen dataclass: its fields are its parameters, checked in
    ``__post_init__``. It holds no state between calls and never changes the model.

    Attributes
    ----------
    default_target
        The request when none is asked.
    signed
        Whether the sign of a value means something.
    unit
        What a value counts.
    class_specific
        False for maps that are the same whatever the target (they say so in their evidence).

    Examples
    --------
    Input x gradient in full::

        @dataclass(frozen=True)
        class InputXGradient(Explainer):
            def requirements(self):
                return Requirements("input")

            def attribute(self, request):
                recording = request.recording(self.requirements())
                x = recording.activation("input")
                return [
                    Attribution((x * recording.gradient(seed, "input")).sum(1))
                    for seed in request.seeds(recording.logits)
                ]
    """

    default_target: ClassVar[Target] = Predicted()
    signed: ClassVar[bool] = True
    unit: ClassVar[str] = "logits"
    class_specific: ClassVar[bool] = True

    @abstractmethod
    def requirements(self) -> Requirements | Sequence[Requirements]:
        """Return what must be recorded. Recordings are shared by all who need the same gates."""

    @abstractmethod
    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return one `Attribution` for each seed of ``question.seeds(logits)``, in order."""

    def explain(
        self,
        model: VisionModel,
        images: Any,
        target: Target | Sequence[Target | Sequence[Target]] | None = None,
        label: GroundTruth | Sequence[GroundTruth | None] | None = None,
        seed: int = 0,
        *,
        budget: int | None = None,
        sanity: bool = False,
    ) -> list[Explanation]:
        """Explain images.

        Parameters
        ----------
        model
            The model; it is left exactly as found.
        images
            A path, PIL image, uint8 array (H, W, 3), a sequence of these, or a prepared float
            tensor (B, C, H, W).
        target
            One target for all images, or one per image; instead of one, an image may be given a
            list of targets, which share its forward pass. None takes `default_target`.
        label
            The truth: a class by name or index (of a segmenter `GroundTruthMask`, of a detector
            `GroundTruthBoxes`), one for all images, or one per image (None where it is unknown).
        seed
            Of all randomness in the method.
        budget
            Bytes that the activations of images run together may take; None chooses from the
            device's memory.
        sanity
            Whether to check that the maps depend on what the network has learned, and put the
            verdict into their evidence; see `cvx_core.sanity`. It copies the model once, and
            makes each map 16 to 48 times more.

        Returns
        -------
        list of Explanation
            One for each image and target, in order.

        Raises
        ------
        UsageError
            If numbers of images, targets and labels differ, a class is unknown, a label is
            missing, or the method has no answer for this model.
        InputError
            If an image can't be read.
        """
        from cvx_core.explainers.runner import run

        return run(model, images, [self], target, label, seed, budget=budget, sanity=sanity)

    @property
    def name(self) -> str:
        """The name it was asked by, or the class's in lower case with hyphens."""
        return getattr(self, "_name", "") or component_name(type(self).__name__)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters for the provenance."""
        return parameters_of(self)

    def recordings(self) -> list[Requirements]:
        """Return `requirements` as a list."""
        needed = self.requirements()
        return [needed] if isinstance(needed, Requirements) else list(needed)

    def __or__(self, step: Any) -> Pipeline:
        """Return an explainer whose maps pass through `step`, as in ``a | rectify``."""
        from cvx_core.explainers.composition import Pipeline

        return Pipeline(self, step)


__all__ = ["Attribution", "Explainer", "Requirements", "Recording"]
