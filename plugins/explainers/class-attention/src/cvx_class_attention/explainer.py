"""Class attention by gradients: class activation maps of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cvx_class_attention.cam import Cam, layer_provenance
from cvx_class_attention.weightings import RECTIFIED, WEIGHTINGS
from cvx_core import Attribution, ExplainRequest, Recording, VisionModel
from cvx_core.plugins import check_choice
from cvx_core.recording import Layer


class _GradientCam(Cam):
    """A class activation map with w from the gradient of the seed."""

    kind: ClassVar[str]

    def weighting_for(self, model: VisionModel) -> str:  # noqa: ARG002
        """Return the weighting for a model."""
        return self.kind

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Whether the formula keeps the sign."""
        return self.kind not in RECTIFIED

    def maps(
        self, request: ExplainRequest, recording: Recording, layer: Layer
    ) -> list[Attribution]:
        """Return the map of each seed at one layer."""
        activation = recording.activation(self.layer)
        combine = WEIGHTINGS[self.weighting_for(request.model)]
        return [
            Attribution(
                combine(activation, recording.gradient(seed, self.layer)),
                provenance=layer_provenance(layer),
            )
            for seed in request.seeds(recording.logits)
        ]


@dataclass(frozen=True)
class ClassAttention(_GradientCam):
    """Class activation map of a layer: sum_k w_k A_k, with w from the gradient of the seed.

    Values are signed, in logits: positive values support the class. With a head of global
    average pooling and one linear layer the Grad-CAM map of class c sums to z_c - b_c.

    Parameters
    ----------
    layer, layers
        See `Cam`.
    weighting
        ``"auto"`` is Grad-CAM where the prediction is one of the whole image, and HiResCAM where it
        is one of a box or a region: of a gradient at a few positions the mean over all says little.
        ``"grad-cam"`` (Selvaraju 2017, arXiv:1610.02391), ``"hires-cam"`` (Draelos 2020,
        arXiv:2011.08891), ``"xgrad-cam"`` (Fu 2020, arXiv:2008.02312), ``"grad-cam-plus-plus"``
        (Chattopadhyay 2018, arXiv:1710.11063) or ``"layer-cam"`` (Jiang 2021). The last two are
        rectified and have no sign.

    Raises
    ------
    OptionError
        If the weighting is unknown.
    LayerError
        If the model has no such layer, or it has no grid.
    """

    weighting: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("weighting", self.weighting, ("auto", *WEIGHTINGS))

    def weighting_for(self, model: VisionModel) -> str:
        """Return the weighting for a model."""
        if self.weighting != "auto":
            return self.weighting
        return "grad-cam" if model.task.whole_image else "hires-cam"

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The weighting."""
        return self.weighting


class GradCam(_GradientCam):
    """Channels weighted by their mean gradient (Selvaraju 2017); see `weightings`."""

    kind = "grad-cam"


class HiResCam(_GradientCam):
    """Activations weighted one by one by their gradient (Draelos 2020); see `weightings`."""

    kind = "hires-cam"


class XGradCam(_GradientCam):
    """Channels weighted by their activation-weighted mean gradient (Fu 2020); see `weightings`."""

    kind = "xgrad-cam"


class GradCamPlusPlus(_GradientCam):
    """Positive gradients weighted by alpha (Chattopadhyay 2018); see `weightings`."""

    kind = "grad-cam-plus-plus"


class LayerCam(_GradientCam):
    """Activations weighted by their positive gradients (Jiang 2021); see `weightings`."""

    kind = "layer-cam"
