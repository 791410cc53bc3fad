"""Activation patching: what the prediction loses when one cell is as in a baseline image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cvx_core import (
    Attribution,
    Explainer,
    ExplainRequest,
    OptionError,
    Requirements,
    did_you_mean,
    is_file,
)
from cvx_core.explainers import in_pieces
from cvx_core.images import BASELINES, make_baseline
from cvx_core.recording import Layer, rerun


@dataclass(frozen=True)
class ActivationPatching(Explainer):
    """Put the baseline's activation into one cell after another, and run what is behind it.

    At each cell u of a layer the map has

        S(x) - S(x with A(u) = A_ref(u)),

    in logits: the activation of the image is exchanged for that of a baseline image in all
    channels of this cell, and the network behind the layer is run again (the causal tracing of Meng
    2022, arXiv:2202.05262; called activation patching, here from the clean run to the corrupted
    one, by Zhang and Nanda 2024, arXiv:2309.16042). Signed: positive positions support the target.
    It is an intervention and not an estimate, and so says how far an estimate can be trusted:
    beside it stand the correlations over the cells with

        sum_k (A_k(u) - A_ref,k(u)) dS/dA_k(u),

    where the gates are held (activation-error against a baseline) and where they are not
    (attribution patching; Syed 2023, arXiv:2310.10348).

    Parameters
    ----------
    layer
        Name of the layer; ``"auto"`` takes the last spatial layer that all paths to the output
        pass. The network behind it is run once for each cell.
    baseline
        The image that the activations come from: ``"zero"``, ``"mean"`` or ``"blur"`` (see
        `cvx_core.images.baselines`), or the path of another image.

    Raises
    ------
    OptionError
        If there is no such baseline, or it is an image whose input has another size.
    InputError
        If that image can't be read.
    LayerError
        If the model has no such layer, or it has no grid.
    """

    layer: str = "auto"
    baseline: str = "zero"

    def __post_init__(self) -> None:
        known = isinstance(self.baseline, str) and (
            self.baseline in BASELINES or is_file(self.baseline)
        )
        if not known:
            raise OptionError(
                f"baseline must be one of {', '.join(BASELINES)} or an image file, "
                f"got {self.baseline!r}.",
                did_you_mean(str(self.baseline), BASELINES) or "Check the path.",
            )

    def requirements(self) -> list[Requirements]:
        """Ask for the layer with the model's own gradient, and with frozen gates."""
        return [Requirements(self.layer), Requirements(self.layer, gates="frozen")]

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, h, w)."""
        native, frozen = map(request.recording, self.requirements())
        place, raw = native.layer(self.layer), native.raw(self.layer)
        with request.with_inputs(self._baselines(request)) as other:
            recording = other.recording(Requirements(self.layer))
            put_in, baseline_logits = recording.raw(self.layer), recording.logits.detach()
        logits = native.logits.detach()
        seeds = request.seeds(logits)
        effects = self._effects(request, place, raw, put_in, torch.stack(seeds))
        all_cells = raw.clone()
        place.positions(all_cells).copy_(place.positions(put_in))
        together = rerun(native, self.layer, all_cells, torch.arange(len(raw)))
        provenance = {"layer": place.name, "layer_reason": place.reason, "baseline": self.baseline}
        found = []
        for seed, effect in zip(seeds, effects, strict=True):
            first, held = (
                place.positions((raw - put_in) * one.gradients(seed, self.layer, missing="zero")[0])
                for one in (native, frozen)
            )
            evidence = {
                "total": (seed * (logits - baseline_logits)).double().sum(1),
                "patched_together": (seed * (logits - together)).double().sum(1),
                "pearson_r": _pearson(effect, held.sum(1)),
                "pearson_r_native": _pearson(effect, first.sum(1)),
                "reruns": effect[0].numel(),
            }
            found.append(Attribution(effect, evidence, provenance))
        return found

    def _baselines(self, request: ExplainRequest) -> Tensor:
        """Return the baseline of each image, (B, C, H, W)."""
        inputs = request.inputs
        if self.baseline in BASELINES:
            return make_baseline(self.baseline, inputs)
        [prepared] = request.model.prepare(self.baseline)
        if prepared.tensor.shape != inputs.shape[1:]:
            raise OptionError(
                f"The network's input for {self.baseline!r} has the shape "
                f"{tuple(prepared.tensor.shape)}, and for the image {tuple(inputs.shape[1:])}.",
                "Take a baseline of the image's size.",
            )
        return prepared.tensor.to(inputs).expand_as(inputs).contiguous()

    def _effects(
        self, request: ExplainRequest, place: Layer, raw: Tensor, put_in: Tensor, seeds: Tensor
    ) -> Tensor:
        """Return S(x) - S(x patched at u), (seeds, B, h, w), in double precision."""
        recording = request.recording(self.requirements()[0])
        height, width = place.grid
        cells = height * width
        source = place.positions(put_in)

        def run(start: int, stop: int) -> Tensor:
            rows = torch.arange(start, stop)
            images, cell = rows // cells, rows % cells
            value = raw[images]
            at = (torch.arange(len(rows)), slice(None), cell // width, cell % width)
            place.positions(value)[at] = source[images, :, cell // width, cell % width]
            answers = rerun(recording, self.layer, value, images).double()
            return torch.einsum("snc,nc->sn", seeds[:, images].double(), answers)

        count = len(raw) * cells
        patched = torch.cat(list(in_pieces(count, request.at_once_behind(place), run)), dim=1)
        plain = (seeds * recording.logits.detach()).double().sum(2)
        return plain[:, :, None, None] - patched.reshape(len(seeds), len(raw), height, width)


def _pearson(one: Tensor, other: Tensor) -> Tensor:
    """Return the correlation over the cells of maps (B, h, w), nan where one is constant, (B,)."""
    a, b = (maps.double().flatten(1) for maps in (one, other))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()
