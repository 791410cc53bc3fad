"""Activation-based error propagation: the error carried back through the activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvx_activation_error.conservation_report import held, missing, rounding
from cvx_activation_error.lrp.gamma import ConservedGamma
from cvx_activation_error.lrp.graph import added_behind
from cvx_activation_error.profile import profiles
from cvx_core import (
    Attribution,
    Explainer,
    ExplainRequest,
    Margin,
    OptionError,
    Recording,
    Requirements,
)
from cvx_core.explainers import Grids
from cvx_core.plugins import check_choice
from cvx_core.recording import Layer, constant_part, contributions, has_bypass

_RULES = ("gamma", "frozen")
_LEAST = 0.3
"""Standard deviation, in positions, below which smoothing would change nothing that is seen."""
_REACH = 3
"""Standard deviations after which the Gaussian ends."""


@dataclass(frozen=True)
class ActivationError(Explainer):
    """Propagate the difference between what was predicted and what is true.

    A signed map in logits of S = <seed, logits>, by default the margin z_q - z_y: positive values
    support the wrong prediction, negative ones the true class. With ``Error(label)`` S is
    sum_c e_c z_c = L - H(p). The map is conserved on any architecture: its sum, what other tokens
    carry, and what constants without a position add make S exactly.

    In the backward pass the gates of the network (normalization scales, attention probabilities,
    gates of GELU-like activations) are constants. By ``rule="gamma"`` contributions of the sign of
    a unit's output count 1 + gamma times (Montavon 2019, doi:10.1007/978-3-030-28954-6_10; both
    signs: Andeol 2021, arXiv:2106.04923), and what a bias takes is added to the map at the bias's
    own position, as Srinivas and Fleuret 2019 (arXiv:1905.00780) do for gradients: the map is that
    of the pixels. A Gaussian averages what neighboring pixels cancel and keeps the sum. By
    ``rule="frozen"`` the map is E(u) = sum_k A_k(u) * dS/dA_k(u) at a layer, which is the epsilon
    rule in ReLU networks (Bach 2015; Ancona 2018, arXiv:1711.06104) and conserved elsewhere due to
    Ali 2022, arXiv:2202.07304; biases count as constants.

    Parameters
    ----------
    layer
        Name of the layer, or ``"input"`` for the pixels. ``"auto"`` is ``"input"`` for the gamma
        rule, and with frozen gates the last spatial layer that all paths to the output pass.
    rule
        ``"gamma"`` or ``"frozen"``.
    gamma
        Additional weight of contributions that have the sign of the output; 0 or more.
    sigma
        Standard deviation of the Gaussian that smooths the map of the gamma rule, as a share of its
        shorter side; 0 for the map as it is.
    verify
        With frozen gates, check conservation by replaying the gates at zero, one more forward pass:
        `residual`, the gap over the largest of the three parts, goes into the evidence. Where it is
        more than rounding allows, `unconserved` says in which modules how much is lost. `held` says
        which frozen functions absorb relevance. The gamma rule needs no replay.
    profile
        Put the layer profile into the evidence (`cvx_activation_error.profile`): true for a dozen
        layers at most, or the names of some.

    Raises
    ------
    OptionError
        If `rule` is another, `gamma` is negative, `sigma` is not between 0 and 1, `verify` is
        neither true nor false, or `profile` is neither that nor a list of names.
    LayerError
        If the model has no such layer, or it has no grid.
    """

    layer: str = "auto"
    rule: str = "gamma"
    gamma: float = 0.1
    sigma: float = 0.015
    verify: bool = True
    profile: bool | tuple[str, ...] = False

    default_target = Margin()

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, _RULES)
        ConservedGamma(gamma=self.gamma)
        if not 0 <= self.sigma <= 1:
            raise OptionError(f"sigma must be between 0 and 1, got {self.sigma!r}.")
        if self.rule == "gamma" and self.layer == "auto":
            object.__setattr__(self, "layer", "input")
        if not isinstance(self.verify, bool):
            raise OptionError(f"verify must be true or false, got {self.verify!r}.")
        if isinstance(self.profile, list):
            object.__setattr__(self, "profile", tuple(self.profile))
        names = self.profile if isinstance(self.profile, tuple) else ()
        if not all(isinstance(n, str) for n in names) or not isinstance(self.profile, bool | tuple):
            raise OptionError(
                f"profile must be true, false or names of layers, got {self.profile!r}.",
                "For example: profile=[blocks.2,blocks.4].",
            )

    def requirements(self) -> Requirements:
        """Ask for the layer with the rule's gates."""
        if self.rule == "gamma":
            return Requirements(self.layer, gates=ConservedGamma(gamma=self.gamma), constants=True)
        return Requirements(self.layer, gates="frozen", tape=self.verify)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, h, w)."""
        recording = request.recording(self.requirements())
        place = recording.layer(self.layer)
        seeds = request.seeds(recording.logits.detach())
        reason = place.reason
        if has_bypass(place, request.model, request.inputs):
            reason += "; paths that bypass it count as constant"
        gates = f"gamma rule, {self.gamma:g}" if self.rule == "gamma" else "frozen"
        where = {"layer": place.name, "layer_reason": reason, "gates": gates}
        names = self.profile if isinstance(self.profile, tuple) else ()
        rows = profiles(request, seeds, names, verify=self.verify) if self.profile else []
        maps = self._placed if self.rule == "gamma" else self._frozen
        return [
            Attribution(values, evidence | (rows[k] if rows else {}), where)
            for k, (values, evidence) in enumerate(maps(request, recording, place, seeds))
        ]

    def _placed(
        self, request: ExplainRequest, recording: Recording, place: Layer, seeds: list[Tensor]
    ) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Yield maps with the parts of biases at their positions, and the evidence."""
        grids, logits = Grids(request), recording.logits.detach()
        # The biases of the last layers are the same for every image: a prior of the class, which
        # would hide the rest of a map that is read from few positions.
        prior = {id(leaf) for leaf in added_behind(recording.logits.grad_fn)}
        kept = recording.kept_constants.kept if recording.kept_constants else []
        apart = [k for k, (_, zeros) in enumerate(kept) if id(zeros) in prior]
        for seed in seeds:
            product, parts = contributions(recording, seed, self.layer)
            values = place.positions(product).sum(dim=1)
            others = place.other_tokens(product).double().sum(dim=(1, 2))
            values, placed, elsewhere = grids.place(parts, values, apart=apart)
            values = _smoothed(values, self.sigma)
            total = (seed * logits).double().sum(1)
            evidence = _evidence(total, values.double().sum(dim=(1, 2)), others, elsewhere)
            yield values, evidence | {"bias_part": placed}

    def _frozen(
        self, request: ExplainRequest, recording: Recording, place: Layer, seeds: list[Tensor]
    ) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Yield the maps of frozen gates, and the evidence."""
        del request
        raw, logits = recording.raw(self.layer), recording.logits.detach()
        constant = constant_part(recording, self.layer) if self.verify else None
        for seed in seeds:
            product = raw * recording.gradients(seed, self.layer)[0]
            values = place.positions(product).sum(dim=1)
            total = (seed * logits).double().sum(1)
            cells = values.double().sum(dim=(1, 2))
            others = place.other_tokens(product).double().sum(dim=(1, 2))
            measured = None if constant is None else (seed * constant).double().sum(1)
            evidence = _evidence(total, cells, others, measured)
            if constant is not None and measured is not None:
                gap = total - cells - others - measured
                limit = rounding(product, seed * logits, seed * constant)
                evidence |= missing(recording, self.layer, seed, gap, limit)
                if recording.mode.leakage.met:
                    lost = held(recording, self.layer, seed, limit)
                    evidence |= {"held": lost} if lost else {}
            yield values, evidence


def _smoothed(maps: Tensor, sigma: float) -> Tensor:
    """Return maps (B, h, w) after a Gaussian that keeps their sums, also at the edges."""
    width = sigma * min(maps.shape[1:])
    if width < _LEAST:
        return maps
    smooth = maps.double()
    for axis in (1, 2):
        steps = torch.arange(maps.shape[axis], dtype=smooth.dtype, device=maps.device)
        distances = (steps[:, None] - steps) / width
        weights = torch.exp(-0.5 * distances**2) * (distances.abs() <= _REACH)
        # What a position gives away adds up to what it has.
        smooth = smooth.transpose(axis, 2) @ (weights / weights.sum(0)).T
        smooth = smooth.transpose(axis, 2)
    return smooth.to(maps)


def _evidence(
    total: Tensor, cells: Tensor, others: Tensor, constant: Tensor | None
) -> dict[str, Any]:
    """Return the parts of the seeded output, all (B,), in logits."""
    evidence: dict[str, Any] = {"total": total, "other_tokens": others}
    if constant is None:
        constant = total - cells - others
    else:
        gap = (total - cells - others - constant).abs()
        parts = torch.stack([total.abs(), (cells + others).abs(), constant.abs()])
        largest = parts.amax(dim=0)
        evidence["residual"] = torch.where(largest > 0, gap / largest.clamp_min(1e-300), gap)
    evidence["constant_part"] = constant
    elsewhere = others.abs() + constant.abs()
    whole = (elsewhere + cells.abs()).clamp_min(1e-300)
    evidence["non_pixel_share"] = elsewhere / whole
    return evidence
