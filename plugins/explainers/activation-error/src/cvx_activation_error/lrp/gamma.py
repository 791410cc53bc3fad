"""Gamma rule with nothing lost: what biases take is recorded where they act.

With contributions c_ij of the inputs of a layer y_j = sum_i c_ij + b_j, those of y_j's sign count
1 + gamma times, the bias too:

    c'_ij = (1 + gamma [c_ij y_j > 0]) c_ij,    D_j = sum_i c'_ij + b'_j.

Input i takes c'_ij / D_j of the relevance R_j, and the bias b'_j / D_j, which other rules lose. D_j
has y_j's sign and is never smaller than y_j, so that nothing explodes; the shares add up to 1, so
that the relevance of the input and of all biases is the score. Sums of two branches, averages, and
products with a constant matrix (attention probabilities, say) follow the same rule. Gates and
normalization scales are constants, as with frozen gates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cvx_activation_error.lrp.linear import LINEAR, Parts
from cvx_activation_error.lrp.relevance import SATURATING, Layers, Relevance
from cvx_activation_error.lrp.rules import Gamma
from cvx_core.recording import FROZEN_GATES, Call, GivenSlopes, Passage, active, argument

if TYPE_CHECKING:
    from cvx_core.models import VisionModel
    from cvx_core.recording import SavedTensors

_AVERAGES = (
    "mean",
    "sum",
    *(f"{kind}avg_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)),
)
_PRODUCTS = {"matmul": "other", "bmm": "mat2", "mm": "mat2"}


@dataclass(frozen=True)
class ConservedGamma(Relevance):
    """Rules of the conserved gamma rule.

    Parameters
    ----------
    gamma
        Additional weight of contributions that have the sign of the output.
    """

    gamma: float = 0.1

    def __post_init__(self) -> None:
        Gamma(self.gamma)

    def begin(self, model: VisionModel, saved: SavedTensors, *, at_input: bool) -> Passage:  # noqa: ARG002
        """Return the rules of one recording."""
        return _Conserved(self, model)


class _Conserved(Layers):
    rules: ConservedGamma

    def __init__(self, rules: ConservedGamma, model: VisionModel) -> None:
        super().__init__(rules, model)
        self._whole = set()
        self.table = {
            **self.table,
            **dict.fromkeys(("add", "sub", "subtract"), self._sum),
            **dict.fromkeys(_AVERAGES, self._average),
            **dict.fromkeys(_PRODUCTS, self._matmul),
            "einsum": self._einsum,
            "scaled_dot_product_attention": self._attention,
        }
        self.own_constants = frozenset((*LINEAR, "batch_norm", *SATURATING))

    def _ruled(self, parts: Parts, y: Tensor) -> Tensor:
        if parts.x.ndim == 2 or (parts.dim != -1 and y[0, 0].numel() == 1):
            # Without positions to tell apart there is nothing to favour: to scale up what two
            # classes have in common would only hide in what they differ.
            return self._plain(parts, y)
        return self._shared(y, parts.signed(1), parts.signed(-1), parts.bias())

    def _plain(self, parts: Parts, y: Tensor) -> Tensor:
        out: Tensor = GivenSlopes.apply((y,), (None,), parts.whole())
        bias = parts.bias()
        if bias is None or self.constants is None:
            return out
        return self.constants.mark(bias.expand_as(y), out, in_place=False)

    def _not_folded(self, call: Call) -> Any:
        found = super()._not_folded(call)
        if self.constants is None or not active(found):
            return found
        shift = self.constants.find(call.name, call.run, call.args, call.kwargs)
        return found if shift is None else self.constants.mark(shift, found, in_place=False)

    def _shared(
        self, y: Tensor, positive: Tensor, negative: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Return y, whose relevance is shared out to two sums of contributions and a bias."""
        above = (y > 0).to(y)
        favoured = torch.lerp(negative.detach(), positive.detach(), above)
        if bias is None:
            share, more = self._share(y, favoured)
        else:
            of_sign = torch.lerp(bias.clamp(max=0), bias.clamp(min=0), above)
            share, more = self._share(y, favoured + of_sign)
        slopes = torch.addcmul(share, more, above), torch.addcmul(share, more, torch.rsub(above, 1))
        out: Tensor = GivenSlopes.apply((y,), slopes, positive, negative)
        if bias is None or self.constants is None:
            return out
        taken = torch.addcmul(share * bias, more, of_sign)
        return self.constants.mark(taken, out, in_place=False)

    def _share(self, y: Tensor, favoured: Tensor) -> tuple[Tensor, Tensor]:
        """Return y / D for D = y + gamma * favoured, and gamma times that; 0 where y is 0."""
        share = y / torch.add(y, favoured, alpha=self.rules.gamma)
        share = share.nan_to_num_(0.0, 0.0, 0.0)
        return share, share * self.rules.gamma

    def _sum(self, call: Call) -> Any:
        a, b = call.args[0], argument(call, 1, "other")
        if not (active(a) and active(b)):
            return call.native()
        y = call.native_detached()
        b = (1 if call.name == "add" else -1) * argument(call, 2, "alpha", 1) * b
        # As in `_shared`, with a and b themselves as the two terms.
        of_sign = [((one.detach() > 0) == (y > 0)).to(y) for one in (a, b)]
        favoured = torch.addcmul(of_sign[0] * a.detach(), of_sign[1], b.detach())
        share, more = self._share(y, favoured)
        slopes = tuple(torch.addcmul(share, more, one) for one in of_sign)
        return GivenSlopes.apply((y,), slopes, a.expand_as(y), b.expand_as(y))

    def _average(self, call: Call) -> Any:
        x = call.args[0]
        return self._positive(call, x, lambda part: call.run(part, *call.args[1:], **call.kwargs))

    def _positive(self, call: Call, x: Tensor, run: Callable[[Tensor], Tensor]) -> Any:
        """Share out a sum of the values of x with positive weights."""
        if not active(x):
            return call.native()
        return self._shared(call.native_detached(), run(x.clamp(min=0)), run(x.clamp(max=0)))

    def _attention(self, call: Call) -> Any:
        names = ("query", "key", "value", "attn_mask")
        query, key, value, mask = (argument(call, k, name) for k, name in enumerate(names))
        if not active(value):
            return call.native_detached()
        rest = {name: given for name, given in call.kwargs.items() if name not in names}
        query, key = query.detach(), key.detach()
        mask = None if mask is None else mask.detach()
        return self._positive(
            call, value, lambda part: call.run(query, key, part, mask, *call.args[4:], **rest)
        )

    def _matmul(self, call: Call) -> Any:
        a, b = call.args[0], argument(call, 1, _PRODUCTS[call.name])
        return self._bilinear(call, a, b, call.run)

    def _einsum(self, call: Call) -> Any:
        operands = call.args[1:]
        if len(operands) == 1 and isinstance(operands[0], tuple | list):
            operands = tuple(operands[0])
        if len(operands) != 2:
            return FROZEN_GATES["einsum"](call)
        return self._bilinear(call, *operands, lambda a, b: call.run(call.args[0], a, b))

    def _bilinear(
        self, call: Call, a: Tensor, b: Tensor, run: Callable[[Tensor, Tensor], Tensor]
    ) -> Any:
        """Share out a product of which one factor is a constant."""
        if active(a) == active(b) or call.gate is not None:
            return FROZEN_GATES[call.name](call)
        y = call.native_detached()
        (up, down), (over, under) = ((x.clamp(min=0), x.clamp(max=0)) for x in (a, b))
        return self._shared(y, run(up, over) + run(down, under), run(up, under) + run(down, over))
