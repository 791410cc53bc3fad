"""Requirements of an explainer: what to record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cvx_core.errors import OptionError
from cvx_core.recording.rules.base import Propagation

Gates = Literal["native", "frozen"] | Propagation


@dataclass(frozen=True, init=False)
class Requirements:
    """Layers to record, and the rules of the backward pass.

    Parameters
    ----------
    *layers
        Names of layers, ``"auto"`` for the last one with a grid, ``"input"`` for the network's
        input. Nothing before the earliest of them builds a graph.
    gates
        ``"native"``: the model's own gradient. ``"frozen"``: normalisation scales, attention
        probabilities and the gates of GELU-like activations are constants in the backward pass.
        A `Propagation`: rules of a plugin.
    tape
        Record the frozen gates, so that the pass can be replayed at another input.
    attention
        Record the attention probabilities.
    attention_gradients
        Make the attention probabilities layers: ``attention#0`` is the first. Nothing before it
        builds a graph. With native gates only; frozen gates make the probabilities constants.
    constants
        Record what functions add that doesn't come from the input: biases, position embeddings,
        class tokens. With frozen gates, or with rules that keep theirs (`Passage.constants`).
    """

    layers: tuple[str, ...]
    gates: Gates
    tape: bool
    attention: bool
    attention_gradients: bool
    constants: bool

    def __init__(
        self,
        *layers: str,
        gates: Gates = "native",
        tape: bool = False,
        attention: bool = False,
        attention_gradients: bool = False,
        constants: bool = False,
    ) -> None:
        odd = [name for name in layers if not isinstance(name, str)]
        if odd:
            raise OptionError(
                f"layer must be one name, got {odd[0]!r}.",
                "'cvx layers -m MODEL' lists them. Methods that fuse several take layers=[A,B].",
            )
        if not isinstance(gates, Propagation) and gates not in ("native", "frozen"):
            raise OptionError(
                f"gates must be 'native', 'frozen' or a Propagation, got {gates!r}.",
                "Write 'native' or 'frozen'.",
            )
        if tape and gates != "frozen":
            raise OptionError("tape=True needs frozen gates.", "Pass gates='frozen' with it.")
        if attention_gradients and gates != "native":
            raise OptionError(
                "attention_gradients=True needs native gates: others make attention constant.",
                "Record with gates='native'.",
            )
        if constants and gates == "native":
            raise OptionError(
                "constants=True needs frozen gates or rules.", "Pass gates='frozen' with it."
            )
        # A frozen dataclass; its generated __init__ could not take layers by position.
        put = object.__setattr__
        put(self, "layers", tuple(dict.fromkeys(layers)))
        put(self, "gates", gates)
        put(self, "tape", tape)
        put(self, "attention", attention)
        put(self, "attention_gradients", attention_gradients)
        put(self, "constants", constants)

    def covers(self, other: Requirements) -> bool:
        """Whether a recording made for this serves the other too."""
        return self.gates == other.gates and self.merged(other) == self

    def merged(self, other: Requirements) -> Requirements:
        """Return requirements that cover both; the gates must be the same."""
        return Requirements(
            *self.layers,
            *other.layers,
            gates=self.gates,
            tape=self.tape or other.tape,
            attention=self.attention or other.attention,
            attention_gradients=self.attention_gradients or other.attention_gradients,
            constants=self.constants or other.constants,
        )
