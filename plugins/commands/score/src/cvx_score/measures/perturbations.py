"""Perturbed versions of images: a runner that measures the target in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from cvx_core import VisionModel
from cvx_core.explainers import in_pieces
from cvx_score.forward import at_once, layout
from cvx_score.targets import MeasuredTarget


class PerturbationRunner:
    """Runs perturbed versions of images in batches and measures their targets.

    Parameters
    ----------
    model
        The network.
    targets
        The targets of images of one shape.
    memory
        Memory budget for one batch, in bytes; None chooses it from the device.

    Attributes
    ----------
    passes
        Images in forward passes so far.
    """

    def __init__(
        self, model: VisionModel, targets: Sequence[MeasuredTarget], memory: int | None
    ) -> None:
        self.model, self.targets, self.passes = model, list(targets), 0
        self._most = at_once(model, targets[0].image.tensor, memory)
        self._layout = layout(model)

    def run(self, owners: Sequence[int], make: Callable[[int, int], Tensor]) -> Tensor:
        """Measure perturbed images.

        Parameters
        ----------
        owners
            The index of each version's image; equal ones are neighbors.
        make
            From start and stop to those versions, (stop - start, C, H, W).

        Returns
        -------
        torch.Tensor
            (2, n), float64 on the CPU: the quantity of each, and 1 where the predicted class is
            the target's, otherwise 0; nan if the target is not one class of a classifier.
        """

        def run(start: int, stop: int) -> Tensor:
            inputs = make(start, stop).contiguous(memory_format=self._layout)
            output = self.model.output(inputs)
            self.passes += stop - start
            found, a = [], 0
            for owner, versions in groupby(owners[start:stop]):
                b = a + len(list(versions))
                part, target = output.rows(a, b), self.targets[owner]
                found.append(torch.stack([target.values(part), target.is_predicted(part)]))
                a = b
            return torch.cat(found, 1).cpu()

        return torch.cat([*in_pieces(len(owners), self._most, run)], 1)
