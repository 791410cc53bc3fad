"""Class activation maps whose channels are weighted by interventions, without gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_class_attention.cam import Cam, layer_provenance
from cvx_core import Attribution, ExplainRequest, Recording
from cvx_core.explainers import in_pieces
from cvx_core.recording import Layer, rerun


class ScoreCam(Cam):
    """Channels weighted by the score of the image where they are active (Wang 2020).

    Score-CAM, arXiv:1910.01279, algorithm 1. The activation of channel k is enlarged to the image
    (bilinear, corners not aligned) and scaled to [0, 1] by its minimum and maximum: H_k. The image
    is multiplied by H_k and run again, and

        w = softmax over k of S(x * H_k),    map = max(sum_k w_k A_k, 0).

    The paper's increase S(x * H_k) - S(baseline) has the same softmax: the baseline is one number.
    Channels that are constant over the image (H_k would be 0 / 0) are not run and have no weight.
    Zero is the zero of the network's input, for most networks the mean color.
    Values are not negative, in units of the activation.
    """

    signed = False
    unit = "activation"

    def maps(
        self, request: ExplainRequest, recording: Recording, layer: Layer
    ) -> list[Attribution]:
        """Return the map of each seed at one layer."""
        activation = recording.activation(self.layer)
        size = (request.inputs.shape[2], request.inputs.shape[3])
        varies = activation.amax(dim=(2, 3)) > activation.amin(dim=(2, 3))

        def logits(images: Tensor, channels: Tensor) -> Tensor:
            mask = F.interpolate(
                activation[images, channels][:, None], size, mode="bilinear", align_corners=False
            )
            low, high = mask.amin(dim=(2, 3), keepdim=True), mask.amax(dim=(2, 3), keepdim=True)
            mask = (mask - low) / (high - low).clamp_min(torch.finfo(mask.dtype).tiny)
            return request.logits(mask * request.inputs[images])

        seeds = request.seeds(recording.logits)
        found = []
        rows = request.at_once
        for seed, scores in zip(seeds, _scores(varies, seeds, logits, rows), strict=True):
            weights = scores.masked_fill(~varies, -torch.inf).softmax(dim=1).nan_to_num(0.0)
            # With a zero seed all channels would have equal weights.
            weights = weights * seed.ne(0).any(dim=1, keepdim=True)
            values = (weights.to(activation)[:, :, None, None] * activation).sum(dim=1)
            evidence = {"reruns": varies.sum(1), "largest_weight": weights.amax(1)}
            found.append(Attribution(values.clamp_min(0), evidence, layer_provenance(layer)))
        return found


class AblationCam(Cam):
    """Channels weighted by the drop of the score without them (Desai and Ramaswamy 2020).

    Ablation-CAM, WACV 2020: w_k = (S - S_k) / S, where S_k is the score with channel k
    set to zero, and the map is sum_k w_k A_k. The paper takes S to be positive; here the drop is
    divided by |S|, which is the same there and keeps the sign elsewhere, so that why P rather than
    Q is the opposite of why Q rather than P. The paper's rectification is left to renderers.

    Only the network behind the layer is run again, if it allows that. Channels that are zero
    everywhere are not run.
    """

    unit = "activation"

    def maps(
        self, request: ExplainRequest, recording: Recording, layer: Layer
    ) -> list[Attribution]:
        """Return the map of each seed at one layer."""
        activation, raw = recording.activation(self.layer), recording.raw(self.layer)
        acts = activation.ne(0).any(dim=3).any(dim=2)

        def logits(images: Tensor, channels: Tensor) -> Tensor:
            value = raw[images]
            layer.positions(value)[torch.arange(len(images)), channels] = 0
            return rerun(recording, self.layer, value, images)

        seeds = request.seeds(recording.logits)
        rows = request.at_once_behind(layer)
        found = []
        for seed, without in zip(seeds, _scores(acts, seeds, logits, rows), strict=True):
            score = (seed * recording.logits.detach()).double().sum(1, keepdim=True)
            drop = torch.where(acts, score - without, 0)
            weights = drop / torch.where(score == 0, 1, score.abs())
            values = (weights.to(activation)[:, :, None, None] * activation).sum(dim=1)
            found.append(Attribution(values, {"reruns": acts.sum(1)}, layer_provenance(layer)))
        return found


def _scores(
    wanted: Tensor, seeds: list[Tensor], logits: Callable[[Tensor, Tensor], Tensor], rows: int
) -> list[Tensor]:
    """Return <seed, logits> for each selected image and channel, in batches.

    Parameters
    ----------
    wanted
        Boolean (B, C).
    seeds
        Each (B, classes).
    logits
        From images and channels, both (n,), to logits (n, classes).
    rows
        Rows per batch; halved if memory runs out.

    Returns
    -------
    list of Tensor
        For each seed scores (B, C) in double precision, zero where not selected.
    """
    images, channels = wanted.nonzero(as_tuple=True)
    found = [torch.zeros(wanted.shape, dtype=torch.float64, device=wanted.device) for _ in seeds]

    def run(start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        i, k = images[start:stop], channels[start:stop]
        return i, k, logits(i, k).double()

    for i, k, outputs in in_pieces(len(images), rows, run):
        for scores, seed in zip(found, seeds, strict=True):
            scores[i, k] = (seed[i] * outputs).sum(1)
    return found
