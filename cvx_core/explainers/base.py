"""Base classes of explainers and of explainers made of others.

An explainer says what it needs recorded (`requirements`) and turns recordings into maps
(`attribute`). The core reads the images, resolves the targets, opens the recordings, shares them
between explainers and targets, splits large batches, and assembles the explanations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor, nn

from cvx_core.explainers.check import installed_checks
from cvx_core.explainers.method import Attribution, Method
from cvx_core.explainers.request import ExplainRequest
from cvx_core.explainers.runner import Labels, Targets, run
from cvx_core.explanations.results import Explanations
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.component import component_name
from cvx_core.recording.requirements import Requirements
from cvx_core.tasks.targets import Target

Step = Callable[[Tensor], Tensor]
"""From maps (B, h, w) to maps (B, h, w)."""


def rectify(values: Tensor) -> Tensor:
    """Keep positive contributions only: max(value, 0)."""
    return values.clamp_min(0)


class Explainer(Method):
    """Propagates a seed back to a layer and returns a signed, unnormalised map.

    Write an explainer as a frozen dataclass: its fields are its parameters, checked in
    ``__post_init__``. It holds no state between calls and never changes the model.

    Attributes
    ----------
    default_target
        The target when none is given.
    signed
        Whether the sign of a value means something.
    unit
        What a value counts.
    class_specific
        False for maps that do not depend on the target (they say so in their evidence).
    needs_gradient
        False if the network is only run, so that one without a gradient can be explained.

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

    def explain(
        self,
        model: VisionModel | nn.Module,
        images: Any,
        target: Targets = None,
        label: Labels = None,
        seed: int = 0,
        *,
        budget: int | None = None,
        sanity: bool = False,
    ) -> Explanations:
        """Explain images.

        Parameters
        ----------
        model
            The model, or a network for prepared tensors; it is left exactly as found.
        images
            A path, folder, pattern, URL, PIL image, uint8 array (H, W, 3), a sequence of these, or
            a prepared float tensor (B, C, H, W).
        target
            One target for all images, or one per image; instead of one, an image may be given a
            list of targets, which share its forward pass. None takes `default_target`. See
            `cvx_core.explain` for the forms of targets and labels.
        label
            Ground truth: a class by name or index (of a segmenter `GroundTruthMask`, of a detector
            `GroundTruthBoxes`), one for all images, or one per image (None where it is unknown).
        seed
            Of all randomness in the method.
        budget
            Bytes that the activations of images run together may take; None chooses from the
            device's memory.
        sanity
            Whether to check that the maps depend on what the network has learned, and put the
            verdict into their evidence. Installed checks run, such as that of cvx-score, which
            copies the model once and makes each map 16 to 48 times more.

        Returns
        -------
        list of Explanation
            One for each image and target, in order.

        Raises
        ------
        UsageError
            If numbers of images, targets and labels differ, a class is unknown, a label is
            missing, or the method can't explain this model.
        InputError
            If an image can't be read.
        """
        checks = installed_checks() if sanity else ()
        return run(model, images, [self], target, label, seed, budget=budget, checks=checks)

    def __or__(self, step: Any) -> Pipeline:
        """Return an explainer whose maps pass through `step`, as in ``a | rectify``."""
        return Pipeline(self, step)


class Composite(Explainer):
    """An explainer made of parts, by default of one."""

    explainer: Explainer

    def parts(self) -> Sequence[Explainer]:
        """Return the explainers it is made of."""
        return [self.explainer]

    @property
    def name(self) -> str:
        """The operation and the explainers it applies to."""
        return f"{self.operation}({', '.join(part.name for part in self.parts())})"

    @property
    def operation(self) -> str:
        """The operation on the parts."""
        return component_name(type(self).__name__)

    @property
    def default_target(self) -> Target:  # type: ignore[override]
        """The first part's."""
        return self.parts()[0].default_target

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether any part's sign means something."""
        return any(part.signed for part in self.parts())

    @property
    def unit(self) -> str:  # type: ignore[override]
        """The parts' unit, if it is one."""
        units = {part.unit for part in self.parts()}
        return units.pop() if len(units) == 1 else ""

    @property
    def class_specific(self) -> bool:  # type: ignore[override]
        """Whether any part depends on the target."""
        return any(part.class_specific for part in self.parts())

    @property
    def needs_gradient(self) -> bool:  # type: ignore[override]
        """Whether any part follows the gradient."""
        return any(part.needs_gradient for part in self.parts())

    def requirements(self) -> list[Requirements]:
        """Ask for what the parts ask."""
        return [need for part in self.parts() for need in part.recordings()]

    def parameters(self) -> dict[str, Any]:
        """Return the own parameters, and under ``parts`` those of the parts."""
        own = {
            f.name: getattr(self, f.name)
            for f in fields(self)  # type: ignore[arg-type]
            if f.name not in ("explainer", "explainers")
        }
        named = {key: getattr(v, "__name__", v) if callable(v) else v for key, v in own.items()}
        return {
            **named,
            "parts": [{"method": part.name, **part.parameters()} for part in self.parts()],
        }


@dataclass(frozen=True)
class Pipeline(Composite):
    """An explainer whose maps pass through a function; made by ``a | step``."""

    explainer: Explainer
    step: Step

    @property
    def operation(self) -> str:
        """The name of the step."""
        return getattr(self.step, "__name__", "step").strip("<>")

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """False after `rectify`, else the explainer's."""
        return self.explainer.signed and self.step is not rectify

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the explainer's attributions with their values changed."""
        return [replace(a, values=self.step(a.values)) for a in self.explainer.attribute(request)]
