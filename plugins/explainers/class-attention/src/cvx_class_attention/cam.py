"""Base of class activation maps, at one layer or averaged over several."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

from torch import nn

from cvx_core import (
    Attribution,
    Explainer,
    ExplainRequest,
    OptionError,
    Recording,
    Requirements,
    layers as average_over,
)
from cvx_core.recording import Layer


@dataclass(frozen=True)
class Cam(Explainer):
    """A class activation map: sum_k w_k A_k of a layer's activations A.

    Parameters
    ----------
    layer
        Name of the layer; ``"auto"`` takes the last spatial layer that all paths to the output
        pass.
    layers
        Names of several layers whose maps are averaged, on the finest grid among them.

    Raises
    ------
    OptionError
        If both are given.
    LayerError
        If the model has no such layer, or it has no grid.
    """

    layer: str = "auto"
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.layers, list):
            object.__setattr__(self, "layers", tuple(self.layers))
        named = (str, nn.Module)  # the runner puts the names of modules in their place
        if not isinstance(self.layers, tuple) or not all(isinstance(n, named) for n in self.layers):
            raise OptionError(
                f"layers must be a tuple of names, got {self.layers!r}.",
                "Write layers=[NAME,NAME].",
            )
        if self.layers and self.layer != "auto":
            raise OptionError(
                f"layer and layers can't be combined, got {self.layer!r} and {list(self.layers)}."
            )

    def requirements(self) -> Requirements:
        """Require the layer or layers."""
        return Requirements(*(self.layers or (self.layer,)))

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, h, w)."""
        if self.layers:
            single = replace(self, layers=())
            object.__setattr__(single, "_name", self.name)
            return average_over(single, self.layers).attribute(request)
        recording = request.recording(self.requirements())
        return self.maps(request, recording, recording.layer(self.layer))

    @abstractmethod
    def maps(
        self, request: ExplainRequest, recording: Recording, layer: Layer
    ) -> list[Attribution]:
        """Return the map of each seed at one layer."""


def layer_provenance(layer: Layer) -> dict[str, str]:
    """Return the provenance entries of a layer."""
    return {"layer": layer.name, "layer_reason": layer.reason}
