"""Linear layers and convolutions, split by the sign of the contributions."""

from __future__ import annotations

import torch
from torch import Tensor

from cvx_activation_error.lrp.graph import is_nonnegative
from cvx_core.recording import Call, arguments


class Parts:
    """One call of a linear layer, split by the sign of what its inputs contribute.

    Attributes
    ----------
    dim
        Where the output has its channels.
    read
        Which of the inputs come from the network's input, where that is known.
    flipped
        Which channels a normalisation turns the sign of, or None where it turns none.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.x: Tensor = call.args[0]
        self.weight, self._bias = arguments(call, "weight", "bias")
        self.dim = -1 if call.name == "linear" else -1 - int(call.name[-2])
        self.native: Tensor | None = None
        self._scale: Tensor | None = None
        self._made: dict[int, Tensor] = {}
        self._nonnegative: bool | None = None
        self.read: Tensor | None = None
        self.flipped: Tensor | None = None

    def counted(self) -> Tensor:
        """Return a one for each input, and a zero for what was padded, laid out as x."""
        return torch.ones_like(self.x) if self.read is None else self.read.to(self.x)

    def through(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the layer's answer to other inputs with other weights and without bias."""
        kwargs = self.call.kwargs
        if kwargs:
            kwargs = {k: v for k, v in kwargs.items() if k not in ("input", "weight", "bias")}
        result: Tensor = self.call.run(x, weight, None, *self.call.args[3:], **kwargs)
        return result

    def whole(self) -> Tensor:
        """Return what all inputs contribute, with the graph (up to a constant)."""
        if self.native is None:
            self.native = self.call.native()
        return self.native if self._scale is None else self.native * self._scale

    def signed(self, sign: int) -> Tensor:
        """Return the sum of the contributions of one sign, 1 or -1, with the graph."""
        if self._scale is None:
            return self._unscaled(sign)
        if self.flipped is None:
            return self._unscaled(sign) * self._scale
        other = torch.where(self.flipped, self._unscaled(-sign), self._unscaled(sign))
        return other * self._scale

    def bias(self) -> Tensor | None:
        """Return the bias, shaped to be added."""
        return None if self._bias is None else self._spread(self._bias)

    def normalised(self, scale: Tensor, shift: Tensor, *, upright: bool) -> Parts:
        """Return the layer with a batch normalisation behind it as one layer.

        Parameters
        ----------
        scale, shift
            (C,).
        upright
            Whether it is known that no scale is negative.
        """
        folded = Parts(self.call)
        folded.native, folded._made = self.native, self._made
        folded._scale = self._spread(scale)
        folded.flipped = None if upright else folded._scale < 0
        folded._bias = shift if self._bias is None else self._bias * scale + shift
        return folded

    def _spread(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * (-1 - self.dim))

    def _unscaled(self, sign: int) -> Tensor:
        if sign not in self._made:
            w = self.weight
            up, down = (w.clamp(min=0), w.clamp(max=0))[::sign]
            x = self.x
            if self._nonnegative is None:
                self._nonnegative = is_nonnegative(x)
            if self._nonnegative:
                self._made[sign] = self.through(x, up)
            else:
                self._made[sign] = self.through(x.clamp(min=0), up) + self.through(
                    x.clamp(max=0), down
                )
        return self._made[sign]


def over(y: Tensor, z: Tensor, epsilon: float) -> Tensor:
    """Return y / z, stabilised; where z is 0 nothing contributes, and so is this."""
    sign = torch.where(z < 0, -1.0, 1.0).to(z.dtype)
    shifted = z + epsilon * sign
    return torch.where(z == 0, torch.zeros_like(y), y / torch.where(z == 0, sign, shifted))


LINEAR: dict[str, str] = {
    "linear": "linear",
    **{f"conv{more}{n}d": "convolution" for more in ("", "_transpose") for n in (1, 2, 3)},
}
"""Which functions are linear layers, and of which kind."""
