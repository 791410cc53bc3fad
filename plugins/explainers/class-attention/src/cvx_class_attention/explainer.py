"""Class-based attention: which places speak for a class."""

from __future__ import annotations

from dataclasses import dataclass

from cvx_class_attention.weightings import WEIGHTINGS
from cvx_core import Attribution, Explainer, Needs, OptionError, Question
from cvx_core.errors import did_you_mean


@dataclass(frozen=True)
class ClassAttention(Explainer):
    """Class activation map of a layer: sum_k w_k A_k, with w from the gradient of the seed.

    Values are signed, in logits: positive cells speak for the class. With a head of global average
    pooling and one linear layer the Grad-CAM map of class c sums to z_c - b_c.

    Parameters
    ----------
    layer
        Name of the layer; ``"auto"`` takes the last grid that everything passes.
    weighting
        ``"grad-cam"`` (Selvaraju 2017, arXiv:1610.02391) or ``"hires-cam"`` (Draelos 2020,
        arXiv:2011.08891).

    Raises
    ------
    OptionError
        If the weighting is unknown.
    LayerError
        If the model has no such layer, or it has no grid.
    """

    layer: str = "auto"
    weighting: str = "grad-cam"

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise OptionError(
                f"There is no weighting {self.weighting!r}.",
                did_you_mean(self.weighting, WEIGHTINGS)
                or "There are " + ", ".join(WEIGHTINGS) + ".",
            )

    def needs(self) -> Needs:
        """Ask for the layer."""
        return Needs(self.layer)

    def attribute(self, question: Question) -> list[Attribution]:
        """Return the map of each seed, (B, h, w)."""
        recording = question.recording(self.needs())
        place = recording.place(self.layer)
        activation = recording.activation(self.layer)
        combine = WEIGHTINGS[self.weighting]
        return [
            Attribution(
                combine(activation, recording.gradient(seed, self.layer)),
                provenance={"layer": place.name, "layer_reason": place.reason},
            )
            for seed in question.seeds(recording.logits)
        ]
