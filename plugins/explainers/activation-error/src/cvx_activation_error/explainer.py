"""Activation-based error propagation: the error carried back through the activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvx_activation_error.conservation_report import held, missing, rounding
from cvx_activation_error.profile import profiles
from cvx_core import Attribution, Explainer, ExplainRequest, Margin, OptionError, Requirements
from cvx_core.recording import constant_part, has_bypass


@dataclass(frozen=True)
class ActivationError(Explainer):
    """Propagate the difference between what was predicted and what is true.

    E(u) = sum_k A_k(u) * dS/dA_k(u) at a layer, S = <seed, logits>, in logits, signed: positive
    cells support the wrong prediction, negative ones for the right one. The gates of the network
    (normalisation scales, attention probabilities, gates of GELU-like activations) are constants in
    the backward pass, so that the map is conserved on any architecture: its sum, what other
    tokens carry, and what biases, other constants and paths around the layer add make S exactly.

    With the default ``Margin(label)`` S is the margin z_q - z_y; with ``Error(label)`` it is
    sum_c e_c z_c = L - H(p).

    Gradient times activation is layer-wise relevance propagation with the epsilon rule in ReLU
    networks (Bach 2015; Ancona 2018, arXiv:1711.06104), and its conservation with frozen gates
    is due
    to Ali 2022, arXiv:2202.07304.

    Parameters
    ----------
    layer
        Name of the layer; ``"auto"`` takes the last spatial layer that all paths to the output
        pass, ``"input"`` the pixels.
    verify
        Check conservation by replaying the gates at zero, one more forward pass: `residual`, the
        gap over the largest of the three parts, goes into the evidence. Where it is more than
        rounding allows, `unconserved` says in which modules how much is lost. `held` says which
        frozen functions absorb relevance.
    profile
        Put the layer profile into the evidence (`cvx_activation_error.profile`): true for a dozen
        layers at most, or the names of some.

    Raises
    ------
    OptionError
        If `verify` is neither true nor false, or `profile` is neither that nor a list of names.
    LayerError
        If the model has no such layer, or it has no grid.
    """

    layer: str = "auto"
    verify: bool = True
    profile: bool | tuple[str, ...] = False

    default_target = Margin()

    def __post_init__(self) -> None:
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
        """Ask for the layer with frozen gates."""
        return Requirements(self.layer, gates="frozen", tape=self.verify)

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, h, w)."""
        recording = request.recording(self.requirements())
        place = recording.layer(self.layer)
        raw = recording.raw(self.layer)
        logits = recording.logits.detach()
        seeds = request.seeds(logits)
        constant = constant_part(recording, self.layer) if self.verify else None
        reason = place.reason
        if has_bypass(place, request.model, request.inputs):
            reason += "; paths that bypass it count as constant"
        where = {"layer": place.name, "layer_reason": reason, "gates": "frozen"}
        names = self.profile if isinstance(self.profile, tuple) else ()
        rows = profiles(request, seeds, names, verify=self.verify) if self.profile else []
        found = []
        for k, seed in enumerate(seeds):
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
                if recording.has_leakage:
                    lost = held(recording, self.layer, seed, limit)
                    evidence |= {"held": lost} if lost else {}
            evidence.update(rows[k] if rows else {})
            found.append(Attribution(values, evidence, where))
        return found


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
