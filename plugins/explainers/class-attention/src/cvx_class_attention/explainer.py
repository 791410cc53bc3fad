"""Class attention by gradients: class activation maps of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from cvx_class_attention.cam import Cam, layer_provenance
from cvx_class_attention.levels import smoothed
from cvx_class_attention.weightings import RECTIFIED, WEIGHTINGS, Weighting, hires_cam
from cvx_core import (
    Attribution,
    ExplainRequest,
    OptionError,
    Recording,
    Requirements,
    VisionModel,
)
from cvx_core.explainers import agreement
from cvx_core.plugins import check_choice
from cvx_core.recording import Layer, find_finer_levels

_AGREEMENT = "agreement"
_FINER = 4
"""How many times finer than the last grid a level is at most: before it gradients are noise."""


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
    """Class activation map: sum_k w_k A_k, with w from the gradient of the seed.

    Values are signed, in logits: positive values support the class.

    Parameters
    ----------
    layer, layers
        See `Cam`.
    weighting
        ``"auto"`` is Grad-CAM where the prediction is one of the whole image, and HiResCAM where it
        is one of a box or a region: of a gradient at a few positions the mean over all says little.
        ``"agreement"`` compares levels: the map of ``"auto"`` at the last grid, and HiResCAM,
        smoothed by a Gaussian of one position, at the last layer of each finer grid up to four
        times as fine. Each is scaled by its largest absolute value, and a position gets the value
        nearest to zero, or 0 where signs differ. It finds causes that are smaller than a cell, and
        misses objects that it should cover. A network with one grid, such as a vision transformer,
        gives the map of ``"auto"``.
        ``"grad-cam"`` (Selvaraju 2017, arXiv:1610.02391; with a head of
        global average pooling and one linear layer it sums to z_c - b_c), ``"hires-cam"`` (Draelos
        2020, arXiv:2011.08891), ``"xgrad-cam"`` (Fu 2020, arXiv:2008.02312),
        ``"grad-cam-plus-plus"`` (Chattopadhyay 2018, arXiv:1710.11063) or ``"layer-cam"`` (Jiang
        2021). The last two are rectified and have no sign.

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
        check_choice("weighting", self.weighting, ("auto", _AGREEMENT, *WEIGHTINGS))
        if self.weighting == _AGREEMENT and (self.layer != "auto" or self.layers):
            raise OptionError(
                f"weighting={_AGREEMENT} compares levels and takes no layer.",
                "Omit layer and layers, or choose another weighting.",
            )

    def weighting_for(self, model: VisionModel) -> str:
        """Return the weighting for a model."""
        if self.weighting not in ("auto", _AGREEMENT):
            return self.weighting
        return "grad-cam" if model.task.whole_image else "hires-cam"

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, h, w): at layers or what levels agree on."""
        if self.weighting == _AGREEMENT:
            finer = find_finer_levels(request.model, request.inputs, _FINER)
            if finer:
                return _agreed(request, WEIGHTINGS[self.weighting_for(request.model)], finer)
        return super().attribute(request)

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The weighting."""
        return self.weighting


def _agreed(
    request: ExplainRequest, weighting: Weighting, finer: Sequence[Layer]
) -> list[Attribution]:
    """Return what a weighting at the last grid and HiResCAM at finer ones agree on, by seed."""
    names = [layer.name for layer in finer]
    recording = request.recording(Requirements("auto", *names))
    last = recording.layer("auto")
    activations = {name: recording.activation(name) for name in ("auto", *names)}
    # Half precision holds the activations, but not small products of them.
    kind = torch.promote_types(activations["auto"].dtype, torch.float32)
    found = []
    for seed in request.seeds(recording.logits):
        gradients = recording.gradients(seed, "auto", *names)
        pairs = [
            (activation.to(kind), layer.positions(gradient).to(kind))
            for activation, gradient, layer in zip(
                activations.values(), gradients, [last, *finer], strict=True
            )
        ]
        maps = [weighting(*pairs[0]), *(smoothed(hires_cam(*pair)) for pair in pairs[1:])]
        provenance = {
            "layer": ", ".join([last.name, *names]),
            "layer_reason": "the last grid and the finer ones before it that all paths pass "
            f"({', '.join(f'{h} x {w}' for h, w in (p.grid for p in (last, *finer)))} positions); "
            "the map is what they agree on",
        }
        agreed = agreement(maps)
        found.append(Attribution(agreed, provenance=provenance, unit="agreement", additive=False))
    return found


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
