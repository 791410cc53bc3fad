"""DeepLIFT with the rescale rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from cvx_activation_error.deep_lift.propagation import Rescale
from cvx_activation_error.propagation import Propagated


@dataclass(frozen=True)
class DeepLift(Propagated):
    """DeepLIFT with the rescale rule (Shrikumar 2017, arXiv:1704.02685).

    The map sums to S(x) - S(x0) for a baseline x0 in a network of linear layers, functions of one
    element, products, quotients, norms, maxima, softmax, attention and normalisation, however they
    are put together. Sorting, comparisons, recurrent layers and functions that have a derivative of
    their own making keep it, and their part may be missing: `residual` tells how much. For x0 a
    detector considers the candidates of x: what it detaches, sorts out or selects is as for x.

    Parameters
    ----------
    layer
        ``"input"`` for the pixels, or the name of a layer.
    baseline
        x0: ``"zero"``, ``"mean"`` or ``"blur"``, see `cvx_core.images.baselines`.

    Raises
    ------
    OptionError
        If there is no such baseline.
    """

    baseline: str = "zero"

    conserves: ClassVar[bool] = True

    def rules(self) -> Rescale:
        """Return the rules of the backward pass."""
        return Rescale(self.baseline)

    def total(self, seed: Tensor, logits: Tensor, baseline: Tensor | None) -> Tensor:
        """Return the difference of the seeded outputs of image and baseline."""
        assert baseline is not None
        return (seed * (logits - baseline)).double().sum(1)
