"""Occlusion: cover a part of the image and see what the prediction loses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cvx_core import Attribution, ExplainRequest, OptionError
from cvx_core.explainers import in_pieces
from cvx_core.images import make_baseline
from cvx_location_attention.perturbation.scores import Perturbation, scores


@dataclass(frozen=True)
class Occlusion(Perturbation):
    """What the prediction loses when a window slides over the image (Zeiler and Fergus 2014).

    A pixel gets the mean of S(x) - S(x covered) over the windows that cover it
    (arXiv:1311.2901). Signed: positive pixels support the target. The network is only run,
    so that any will do.

    Parameters
    ----------
    window
        Side of the window in pixels of the network's input; none takes a seventh of the shorter
        side.
    stride
        Pixels from one window to the next, at most `window`; none takes half of it. Windows begin
        at the upper left and go on until the border is covered, those at the border cut off.
    baseline
        What covers the image: ``"zero"`` (for most networks a mean grey), ``"mean"`` or
        ``"blur"``; see `cvx_core.images.baselines`.
    score
        S is the sum of the seed times the ``"logit"``\\ s, or times each output's
        ``"probability"`` by the task (softmax of a classifier, as in the paper).

    Raises
    ------
    OptionError
        If a parameter is out of its range.
    """

    window: int | None = None
    stride: int | None = None
    baseline: str = "zero"
    score: str = "logit"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("window", "stride"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise OptionError(f"{name} must be a positive integer (pixels), got {value!r}.")
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise OptionError(
                f"stride must be at most the window, {self.window}, got {self.stride}.",
            )

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the map of each seed, (B, H, W)."""
        logits = request.recording(self.requirements()).logits
        seeds = torch.stack(request.seeds(logits))
        inputs = request.inputs
        _, _, height, width = inputs.shape
        window, stride = self._sizes(min(height, width))
        rows, columns = (_windows(side, window, stride) for side in (height, width))
        cover = make_baseline(self.baseline, inputs)
        places = [(i, r, c) for i in range(len(inputs)) for r in rows for c in columns]

        def run(start: int, stop: int) -> Tensor:
            covered = []
            for i, r, c in places[start:stop]:
                one = inputs[i].clone()
                one[:, r, c] = cover[i, :, r, c]
                covered.append(one)
            images = [i for i, _, _ in places[start:stop]]
            return scores(request, seeds[:, images], self.score, torch.stack(covered))

        found = torch.cat(list(in_pieces(len(places), request.at_once, run)), dim=1)
        found = found.reshape(len(seeds), len(inputs), -1)
        losses = scores(request, seeds, self.score)[:, :, None] - found
        spread = losses.reshape(*losses.shape[:2], len(rows), len(columns))
        provenance = {"layer": "input", "window": window, "stride": stride}
        return [
            Attribution(one, {"windows": len(rows) * len(columns)}, provenance)
            for one in _averaged(spread, rows, columns, (height, width))
        ]

    def _sizes(self, side: int) -> tuple[int, int]:
        window = self.window or max(1, (self.stride or 0), side // 7)
        if window > side:
            raise OptionError(
                f"window must be at most the size of the input, {side}, got {window}.",
            )
        return window, self.stride or max(1, window // 2)


def _windows(side: int, window: int, stride: int) -> list[slice]:
    """Return the windows along one side, the last of which may be cut off by the border."""
    count = -(-(side - window) // stride) + 1
    return [slice(k * stride, min(side, k * stride + window)) for k in range(count)]


def _averaged(
    losses: Tensor, rows: list[slice], columns: list[slice], size: tuple[int, int]
) -> Tensor:
    """Give every pixel the mean of the windows (..., rows, columns) that cover it."""
    vertical = _covering(rows, size[0]).to(losses)
    horizontal = _covering(columns, size[1]).to(losses)
    total = vertical.mT @ losses @ horizontal
    count = vertical.sum(dim=0)[:, None] * horizontal.sum(dim=0)
    return total / count


def _covering(windows: list[slice], side: int) -> Tensor:
    """Return which pixel is covered by which window, (windows, side)."""
    covering = torch.zeros(len(windows), side)
    for k, window in enumerate(windows):
        covering[k, window] = 1.0
    return covering
