"""Class attention by gradients: class activation maps of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from cvx_class_attention.cam import Cam, layer_provenance
from cvx_class_attention.levels import (
    BASELINE,
    STEPS,
    finer_levels,
    first_tokens,
    maps_on_path,
    reads_no_position,
    smoothed,
    weighted,
)
from cvx_class_attention.weightings import RECTIFIED, WEIGHTINGS, Weighting, grad_cam, hires_cam
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
from cvx_core.recording import Layer

_PATH, _AGREEMENT = _SEVERAL = ("path", "agreement")
"""Weightings of several levels."""


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
        ``"auto"`` is ``"path"`` where the prediction is one of the whole image or read from class
        or detection tokens, or ``"grad-cam"`` if a layer is named; and HiResCAM where it is one of
        a box or a region: of a gradient at a few positions the mean over all says little.
        ``"path"``: Grad-CAM at the last grid, weighted by finer levels. At the last layer of each
        finer grid, up to four times as fine, the activations are multiplied by the mean gradient
        over 8 noisy images on the path from the image's mean color to the image, summed over
        channels and smoothed by a Gaussian of one position. The sum of these maps, each scaled by
        its largest absolute value, weights Grad-CAM from 0 to 1 where the signs are the same, and
        with 0 elsewhere. A vision transformer, whose tokens have one grid, gives such a map of its
        first tokens, alone. Other networks with one grid give Grad-CAM.
        ``"agreement"`` compares levels in one pass: Grad-CAM at the last grid and smoothed HiResCAM
        at the finer ones. Each is scaled by its largest absolute value, and a position gets the
        value nearest to zero, or 0 where signs differ. A network with one grid gives Grad-CAM.
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
        check_choice("weighting", self.weighting, ("auto", *_SEVERAL, *WEIGHTINGS))
        if self.weighting in _SEVERAL and self._named:
            raise OptionError(
                f"weighting={self.weighting} compares levels and takes no layer.",
                "Omit layer and layers, or choose another weighting.",
            )

    def weighting_for(self, model: VisionModel) -> str:
        """Return the weighting of a single layer for a model."""
        if self.weighting in WEIGHTINGS:
            return self.weighting
        return "grad-cam" if model.task.whole_image else "hires-cam"

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, h, w): at layers, or of several levels."""
        auto = self.weighting == "auto" and not self._named
        whole = auto and (request.model.task.whole_image or reads_no_position(request))
        if whole or self.weighting == _PATH:
            finer = finer_levels(request)
            first = finer or first_tokens(request)
            if first:
                return _on_path(request, first, weigh=bool(finer))
        if self.weighting == _AGREEMENT and (finer := finer_levels(request)):
            return _agreed(request, WEIGHTINGS[self.weighting_for(request.model)], finer)
        return super().attribute(request)

    @property
    def _named(self) -> bool:
        return self.layer != "auto" or bool(self.layers)

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The weighting."""
        return self.weighting


def _on_path(request: ExplainRequest, layers: Sequence[Layer], *, weigh: bool) -> list[Attribution]:
    """Return Grad-CAM weighted by maps of finer layers along a path, or their only map, by seed."""
    names = [layer.name for layer in layers]
    recording = request.recording(Requirements("auto", *names))
    last = recording.layer("auto")
    activations = [recording.activation(name) for name in names]
    evidence = {"path_gradients": STEPS}
    seeds = request.seeds(recording.logits)
    found = []
    for seed, maps in zip(seeds, maps_on_path(request, seeds, activations, layers), strict=True):
        if weigh:
            coarse = grad_cam(recording.activation("auto"), recording.gradient(seed, "auto"))
            values, unit = weighted(coarse.to(maps[0]), maps), "weighted logits"
            provenance = _provenance([last, *layers], "finer levels weight Grad-CAM at the last")
        else:
            values, unit = maps[0], "logits"
            provenance = layer_provenance(layers[0])
            provenance["layer_reason"] = "first tokens that all paths pass"
        provenance["baseline"] = BASELINE
        found.append(Attribution(values, evidence, provenance, unit, additive=False))
    return found


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
        provenance = _provenance([last, *finer], "the map is what they agree on")
        agreed = agreement(maps)
        found.append(Attribution(agreed, provenance=provenance, unit="agreement", additive=False))
    return found


def _provenance(layers: Sequence[Layer], reason: str) -> dict[str, str]:
    """Return the provenance entries of the last grid and finer ones."""
    return {
        "layer": ", ".join(layer.name for layer in layers),
        "layer_reason": "the last grid and the finer ones before it that all paths pass "
        f"({', '.join(f'{h} x {w}' for h, w in (one.grid for one in layers))} positions); "
        + reason,
    }


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
