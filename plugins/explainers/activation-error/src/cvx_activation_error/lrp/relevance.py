"""Layer-wise relevance propagation: every linear layer under a rule of its own.

Relevance is R = a * g everywhere, g being a modified gradient. What freezing the gates does
already is what the papers ask for: elementwise functions pass relevance on, pooling and residual
sums share it in proportion, products of two tensors halve it (Achtibat 2024, arXiv:2402.05602,
prop. 3.3), normalisation is a linear layer whose scale is a constant (prop. 3.4). What is left are
the linear layers, and what passes a softmax.

In attention that is not held, softmax passes R_i = x_i (R_i - s_i sum_j R_j) on to its scores x
(Achtibat 2024, prop. 3.1). Its own gradient is g_i = s_i (h_i - sum_j s_j h_j) for h at its output
s, where R_j = s_j h_j: so x_i g_i = x_i (R_i - s_i sum_j R_j), and nothing has to be changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from cvx_activation_error.lrp.graph import from_input, nearest, note_nonnegative, reaches
from cvx_activation_error.lrp.linear import LINEAR, Parts, over
from cvx_activation_error.lrp.rules import AlphaBeta, Epsilon, FirstRule, Rule, ZBox
from cvx_core import MethodError
from cvx_core.recording import (
    FROZEN_GATES,
    Backward,
    Call,
    GivenSlopes,
    Passage,
    Propagation,
    SavedTensors,
    active,
    argument,
    arguments,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cvx_core.models import VisionModel


_EPSILON = Epsilon()
_PARTS = "_cvx_parts"
_COMPARED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Relevance(Propagation):
    """Rules for the linear layers of a network.

    Parameters
    ----------
    convolution, linear
        Rules of convolutions and of fully connected layers.
    first
        Rule of every linear layer that no other comes before, if relevance is asked for at the
        network's input; None treats them as all others.
    attention
        ``"held"``: probabilities are constants (Ali 2022, arXiv:2202.07304). ``"softmax"``: part of
        the relevance goes through them to queries and keys (Achtibat 2024).
    start
        What is propagated: ``"score"`` begins with seed times logit, ``"seed"`` with the seed.
    contrastive
        Subtract what the last linear layers with negated weights propagate (Zhang 2016,
        arXiv:1608.00507, sec. 3.3).
    """

    convolution: Rule = _EPSILON
    linear: Rule = _EPSILON
    first: FirstRule | None = None
    attention: Literal["held", "softmax"] = "held"
    start: Literal["score", "seed"] = "score"
    contrastive: bool = False

    def begin(self, model: VisionModel, saved: SavedTensors, *, at_input: bool) -> Passage:  # noqa: ARG002
        """Return the rules of one recording."""
        first = self.first if at_input else None
        return Layers(self, model, first.of(model) if isinstance(first, ZBox) else first)


@dataclass
class _Last:
    """What a linear layer may need if it proves to be the last: see `Relevance.contrastive`."""

    node: Any
    edge: GradientEdge
    terms: list[Tensor]
    slopes: list[Tensor]


SATURATING = (
    *("relu6", "hardtanh", "threshold", "softshrink", "hardshrink"),
    *("clamp", "clip", "clamp_min", "clamp_max"),
)


class Layers(Passage):
    """Rules of one recording: a table of functions, and where relevance arises."""

    def __init__(
        self, rules: Relevance, model: VisionModel, first: FirstRule | None = None
    ) -> None:
        self.rules, self.first = rules, first
        self._upright = upright_scales(model)
        pairs = (("convolution", rules.convolution), ("linear", rules.linear))
        self._whole = {kind for kind, rule in pairs if not isinstance(rule, AlphaBeta)}
        # Where relevance arises: x, and the leaves; it is the sum of each leaf times its gradient.
        self.sources: list[tuple[Tensor, list[Tensor]]] = []
        self.lasts: list[_Last] = []
        table: dict[str, Callable[[Call], Any]] = dict(FROZEN_GATES)
        table |= dict.fromkeys(LINEAR, self._linear)
        table["batch_norm"] = self._batch_norm
        table |= dict.fromkeys(("clone", "contiguous"), _same)
        # An activation hands on all that it gets (Bach 2015), also where it is saturated: what
        # is a constant elsewhere, as the 6 of ReLU6, would take relevance away here.
        table |= dict.fromkeys(SATURATING, _saturating)
        if rules.attention == "softmax":
            table["softmax"] = Call.native
            table["scaled_dot_product_attention"] = _attention
        self.table: Mapping[str, Callable[[Call], Any]] = table

    def _linear(self, call: Call) -> Any:
        if not call.args[0].requires_grad:
            return call.native()
        parts = Parts(call)
        if parts.weight.requires_grad:
            return FROZEN_GATES[call.name](call)
        # With a graph only where a rule has it among its terms.
        whole = LINEAR[call.name] in self._whole
        out = self._ruled(parts, parts.whole().detach() if whole else call.native_detached())
        # A batch normalisation may come next, and make one layer with this one.
        setattr(out, _PARTS, (parts, out._version))
        return out

    def _ruled(self, parts: Parts, y: Tensor) -> Tensor:
        kind = LINEAR[parts.call.name]
        if self.first is not None and not reaches(parts.x.grad_fn):
            parts.read = from_input(parts.x)
            z, leaves = self.first.sources(parts)
            self.sources.append((parts.x, leaves))
            terms, slopes = [z], [over(y, z.detach(), 1e-9)]
        else:
            rule = self.rules.convolution if kind == "convolution" else self.rules.linear
            terms, slopes = rule.terms(parts, y)
        out: Tensor = GivenSlopes.apply((y,), tuple(slopes), *terms)
        if self.rules.contrastive:
            negated = parts.signed(-1)
            against = over(y, negated.detach(), 1e-9)
            edge = get_gradient_edge(out)
            self.lasts.append(_Last(out.grad_fn, edge, [*terms, negated], [*slopes, -against]))
        return out

    def _batch_norm(self, call: Call) -> Any:
        """Batch normalisation; behind a linear layer it is one layer with it."""
        x = call.args[0]
        parts, version = getattr(x, _PARTS, (None, 0))
        # With x.ndim 2 channels are last as well as first.
        if parts is None or x.ndim + parts.dim != 1 or version != x._version:
            return self._not_folded(call)
        names = ("weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
        weight, bias, mean, var, training, _, eps = arguments(call, *names)
        if training:
            return self._not_folded(call)
        scale = (var + (1e-5 if eps is None else eps)).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        y = call.native_detached()
        upright = weight is None or weight.data_ptr() in self._upright
        return self._ruled(
            parts.normalised(scale.to(x.dtype), shift.to(x.dtype), upright=upright), y
        )

    def _not_folded(self, call: Call) -> Any:
        return FROZEN_GATES["batch_norm"](call)

    def relevance(
        self,
        logits: Tensor,
        seed: Tensor,
        node: Tensor,
        baseline: Tensor | None,  # noqa: ARG002
        backward: Backward,
    ) -> Tensor | None:
        """Return R = a * g at a layer, with what first layers give to the input directly."""
        if self.rules.start == "seed":
            z = logits.detach()
            seed = torch.where(z == 0, torch.zeros_like(z), seed / torch.where(z == 0, 1.0, z))
        if self.rules.contrastive:
            logits, seed = self._contrasted(logits, seed, backward)
        sources = self.sources if node.is_leaf else []
        leaves = [leaf for _, several in sources for leaf in several]
        own, *others = backward(logits, [node, *leaves], seed)
        found = None if own is None else node.detach() * own
        gradients = iter(others)
        for x, several in sources:
            landed = torch.zeros_like(x)
            for leaf in several:
                gradient = next(gradients)
                if gradient is not None:
                    landed = landed + leaf.detach() * gradient
            carried = _carried(landed, x, node)
            found = carried if found is None else found + carried
        return found

    def _contrasted(
        self, logits: Tensor, seed: Tensor, backward: Backward
    ) -> tuple[Tensor, Tensor]:
        """Return a scalar whose pullback is that of the last layers less that of their duals."""
        top = nearest(logits.grad_fn)
        lasts = [last for last in self.lasts if last.node in top]
        if not lasts:
            raise MethodError(
                "There is no linear layer between the layer and the prediction to negate.",
                "Name an earlier layer, or use the method without contrast.",
            )
        edges: Any = [last.edge for last in lasts]
        found = backward(logits, edges, seed)
        with torch.enable_grad():
            total = torch.stack(
                [
                    (term * (slope * gradient)).sum()
                    for last, gradient in zip(lasts, found, strict=True)
                    if gradient is not None
                    for term, slope in zip(last.terms, last.slopes, strict=True)
                ]
            ).sum()
        return total, torch.ones_like(total)


def _saturating(call: Call) -> Any:
    """Hand on relevance as other gates do."""
    out = FROZEN_GATES["gelu"](call)
    lowest = 0.0 if call.name == "relu6" else None
    if call.name in ("hardtanh", "clamp", "clip", "clamp_min"):
        lowest = argument(call, 1, "min_val" if call.name == "hardtanh" else "min")
    if isinstance(lowest, int | float) and lowest >= 0:
        note_nonnegative(out)
    return out


def upright_scales(model: VisionModel) -> frozenset[int]:
    """Return the addresses of the vectors among a network's weights that have no negative value.

    All are read in one transfer, once for these weights.
    """
    facts = model.facts

    def compute() -> frozenset[int]:
        vectors = [
            one.detach()
            for one in model.module.parameters()
            if one.ndim == 1 and one.numel() and one.dtype in _COMPARED
        ]
        lowest = [one.min().to(model.device, torch.float32) for one in vectors]
        pairs = zip(vectors, torch.stack(lowest).tolist() if lowest else (), strict=True)
        return frozenset(one.data_ptr() for one, value in pairs if value >= 0)

    # With the versions: other facts are passed on to networks of the same architecture.
    return facts.find(compute, "upright scales", facts.versions)


def _same(call: Call) -> Any:
    """A copy is known for what it is a copy of."""
    result, (parts, version) = call.native(), getattr(call.args[0], _PARTS, (None, 0))
    if parts is not None and version == call.args[0]._version:
        setattr(result, _PARTS, (parts, result._version))
    return result


def _attention(call: Call) -> Any:
    """Half to the probabilities and half to the values; of the former half to queries and keys."""
    query, key = argument(call, 0, "query"), argument(call, 1, "key")
    value, rest = argument(call, 2, "value"), call.args[3:]
    kwargs = {k: v for k, v in call.kwargs.items() if k not in ("query", "key", "value")}
    scores, values = active(query) or active(key), active(value)
    outer = 0.5 if scores and values else 1.0
    inner = outer * (0.5 if active(query) and active(key) else 1.0)
    query, key, value = (
        GivenSlopes.apply(
            (x.detach(),), (torch.full((), factor, dtype=x.dtype, device=x.device),), x
        )
        if active(x) and factor != 1
        else x
        for x, factor in ((query, inner), (key, inner), (value, outer))
    )
    return call.run(query, key, value, *rest, **kwargs)


def _carried(landed: Tensor, x: Tensor, node: Tensor) -> Tensor:
    """Carry relevance at x back to an earlier place, through what prepares the input.

    That is no layer: it moves, scales or mixes values by a matrix J. Each value at x gives its
    relevance to those it was made of, in proportion to J: J^T (R / J 1).
    """
    if x is node:
        return landed
    with torch.enable_grad():
        vector = torch.zeros_like(x, requires_grad=True)
        (pulled,) = torch.autograd.grad(x, node, vector, create_graph=True, allow_unused=True)
        if pulled is None:
            return torch.zeros_like(node)
    (pushed,) = torch.autograd.grad(pulled, vector, torch.ones_like(pulled), allow_unused=True)
    if pushed is None:
        return torch.zeros_like(node)
    share = over(landed, pushed, 0.0)
    (found,) = torch.autograd.grad(x, node, share, retain_graph=True)
    return found
