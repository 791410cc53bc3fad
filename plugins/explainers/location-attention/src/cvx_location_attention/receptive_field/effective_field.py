"""Effective receptive field: the part of its field that a position really uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvx_core import Attribution, Explainer, ExplainRequest, OptionError, Recording, Requirements
from cvx_core.explainers import in_pieces
from cvx_core.recording import find_layer
from cvx_location_attention.layer_maps import named
from cvx_location_attention.receptive_field.positions import as_recorded


@dataclass(frozen=True)
class EffectiveReceptiveField(Explainer):
    """The gradient of a layer's centre cell, summed over its channels (Luo 2016).

    The map is the length of d(sum_k A_k,centre)/dx over the input's channels (arXiv:1701.04128):
    on the image itself, or averaged over noise images as in the paper. Independent of the class,
    and not negative. The evidence holds its `spread`.

    Parameters
    ----------
    layer
        Name of the layer; ``"auto"`` takes the last spatial layer that all paths to the output
        pass.
    copies
        Images of standard normal noise to average over; 0 takes the image itself.

    Raises
    ------
    OptionError
        If `copies` is negative or 1.
    """

    layer: str = "auto"
    copies: int = 0

    signed = False
    unit = "activation per unit of input"
    class_specific = False

    def __post_init__(self) -> None:
        if not isinstance(self.copies, int) or self.copies < 0 or self.copies == 1:
            raise OptionError(
                f"copies must be 0 (the image itself) or an integer of at least 2, got "
                f"{self.copies!r}."
            )

    def requirements(self) -> Requirements:
        """Ask for the layer and the input, or only for the prediction to the image."""
        return Requirements() if self.copies else Requirements(self.layer, "input")

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map, the same for every seed, (B, H, W)."""
        recording = request.recording(self.requirements())
        evidence: dict[str, Any] = {}
        if self.copies:
            values, evidence = self._of_noise(request)
        else:
            values = self._of(recording)
        place = find_layer(self.layer, recording.model, recording.inputs)
        evidence["spread"] = spread(values)
        one = Attribution(values, evidence, named(place))
        return [one for _ in request.seeds(recording.logits)]

    def _of(self, recording: Recording) -> Tensor:
        place = find_layer(self.layer, recording.model, recording.inputs)
        vector = torch.zeros_like(recording.activation(self.layer))
        h, w = place.grid
        vector[:, :, h // 2, w // 2] = 1.0
        full = as_recorded(vector, place, recording, self.layer)
        found: Tensor = recording.pull(full, at=self.layer, to="input").norm(dim=1)
        return found

    def _of_noise(self, request: ExplainRequest) -> tuple[Tensor, dict[str, Any]]:
        shape = request.inputs.shape[1:]
        # A seed for each image, so that they are the same however many run at once.
        own = torch.randint(2**62, (self.copies,), generator=request.generator()).tolist()

        def run(start: int, stop: int) -> Tensor:
            noise = [
                torch.randn(shape, generator=torch.Generator().manual_seed(one))
                for one in own[start:stop]
            ]
            with request.with_inputs(torch.stack(noise).to(request.inputs)) as asked:
                return self._of(asked.recording(Requirements(self.layer, "input")))

        maps = torch.cat(list(in_pieces(self.copies, request.at_once, run)))
        error = float((maps.std(dim=0) / self.copies**0.5).mean())
        values = maps.mean(dim=0).expand(len(request.inputs), -1, -1)
        return values, {"standard_error": error, "copies": self.copies}


def spread(maps: Tensor) -> Tensor:
    """Return the standard deviation of maps (B, H, W) about their centre of mass, in pixels.

    The mean of the two axes' variances is taken, so that a Gaussian map has its sigma. Of a stack
    of n convolutions with k x k equal weights it is sqrt(n (k^2 - 1) / 12) (Luo 2016, sec. 2.2).
    """
    total = maps.double().sum(dim=(1, 2)).clamp_min(torch.finfo(torch.float64).tiny)
    variance = torch.zeros_like(total)
    for along, across in ((1, 2), (2, 1)):
        share = maps.double().sum(dim=across) / total[:, None]
        steps = torch.arange(maps.shape[along], dtype=torch.float64, device=maps.device)
        centre = (share * steps).sum(dim=1, keepdim=True)
        variance += (share * (steps - centre).square()).sum(dim=1) / 2
    return variance.sqrt()
