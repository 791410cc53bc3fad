"""Location-based attention: where the model looks at all, and what one position reads."""

from __future__ import annotations

from dataclasses import dataclass

from cvx_core import Attribution, Explainer, ExplainRequest, OptionError, Requirements
from cvx_core.plugins import check_choice
from cvx_location_attention.attention_rollout import rolled_out
from cvx_location_attention.contribution_energy import ContributionEnergy, contribution_layer
from cvx_location_attention.layer_maps import Energy
from cvx_location_attention.receptive_field.input_influence import Reads

_MODES = ("auto", "contributions", "energy", "rollout", "reads")


@dataclass(frozen=True)
class LocationAttention(Explainer):
    """Where the model looks, independent of the class.

    Values are not negative. Without a query: for transformers with global attention the attention
    rollout of the class token (or the mean over the tokens that the prediction reads), in shares of
    1; for other predictions of the whole image the energy of the contributions to the outputs (see
    `ContributionEnergy`), and for boxes and regions the energy of a layer, sum_k \\|A_k\\|^p. With
    a query: what that position of the layer reads from the image.

    Parameters
    ----------
    layer
        Name of the layer; ``"auto"`` takes the last spatial layer that all paths to the output
        pass. Naming one (or a power) asks for its energy; a rollout runs over all layers.
    mode
        ``"contributions"``, ``"energy"`` (Zagoruyko and Komodakis 2017, arXiv:1612.03928),
        ``"rollout"`` (Abnar and Zuidema 2020, arXiv:2005.00928), ``"reads"`` (with `query`), or
        ``"auto"``.
    power
        p of the energy, greater than 0.
    query
        (x, y) in pixels of the image: the cell of the layer there is asked what it reads.
        The map is the length of d<v, A_q>/dx over the input's channels, v being the direction of
        the cell's own activation A_q (or one channel, see `channel`): exactly zero outside the
        receptive field.
    channel
        Channel of the layer that the query follows instead of the activation's direction.

    Raises
    ------
    OptionError
        If a parameter is out of its range.
    MethodError
        If rollout is asked of a network without global attention, or the query lies outside of
        what the network sees.
    """

    layer: str = "auto"
    mode: str = "auto"
    power: float = 2.0
    query: tuple[float, float] | None = None
    channel: int | None = None

    signed = False
    class_specific = False

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, _MODES)
        Energy(self.layer, self.power)  # refuses what it must, as the next does
        if self.query is not None:
            reads = Reads(self.query, self.layer, self.channel)
            object.__setattr__(self, "query", reads.query)
        elif self.channel is not None:
            raise OptionError("channel requires a query.", "Pass query=(x,y) in pixels.")
        if (self.query is not None) != (self.mode == "reads") and self.mode != "auto":
            raise OptionError(
                f"mode={self.mode!r} can't be combined with query={self.query}.",
                "mode='reads' requires query=(x,y); the other modes have no query.",
            )
        if self.mode in ("contributions", "rollout") and self._of_a_layer:
            raise OptionError(
                f"mode={self.mode!r} has no layer and no power.",
                "Omit layer and power, or use mode=energy.",
            )

    @property
    def _of_a_layer(self) -> bool:
        return (self.layer, self.power) != ("auto", 2.0)

    @property
    def _may_roll_out(self) -> bool:
        return self.mode in ("auto", "rollout") and not self._of_a_layer

    def requirements(self) -> Requirements:
        """Ask for the layer, the attention probabilities, or the input."""
        if self.query is not None:
            return Requirements(self.layer, "input")
        return Requirements(self.layer, attention=self._may_roll_out)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map, the same for every seed, (B, h, w)."""
        if self.query is not None:
            return Reads(self.query, self.layer, self.channel).attribute(request)
        if self.mode == "contributions":
            return ContributionEnergy().attribute(request)
        if self.mode == "energy" or self._of_a_layer:
            return Energy(self.layer, self.power).attribute(request)
        layers = [self.layer]
        if self.mode == "auto" and request.model.task.whole_image:
            # Recorded along with the attention, so that contributions need no second pass.
            layers.append(contribution_layer(request))
        recording = request.recording(Requirements(*layers, attention=True))
        one = rolled_out(recording)
        if isinstance(one, Attribution):
            return [one for _ in request.seeds(recording.logits)]
        if self.mode == "rollout":
            raise one
        if request.model.task.whole_image:
            return ContributionEnergy().attribute(request)
        return Energy(self.layer, self.power).attribute(request)
