"""Perturbed versions of images: a runner that measures the target in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cvx_core import VisionModel
from cvx_core.explainers import in_pieces
from cvx_score.forward import at_once, layout, rows
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

    def run(
        self, owners: Sequence[int], make: Callable[[int, int], Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Return the quantity of each perturbed image (n,), float64 on the CPU.

        Parameters
        ----------
        owners
            The index of each version's image; equal ones are neighbors.
        make
            From start and stop to those versions, (stop - start, C, H, W).

        Returns
        -------
        tuple
            The values, and whether the predicted class is the target's, for classifiers.
        """

        def run(start: int, stop: int) -> tuple[Tensor, Tensor | None]:
            inputs = make(start, stop).contiguous(memory_format=self._layout)
            output = self.model.output(inputs)
            self.passes += stop - start
            values, correct, a = [], [], 0
            for owner in dict.fromkeys(owners[start:stop]):
                b = a + list(owners[start:stop]).count(owner)
                part = rows(output, a, b)
                values.append(self.targets[owner].values(part))
                correct.append(self.targets[owner].is_predicted(part))
                a = b
            known = [one for one in correct if one is not None]
            return torch.cat(values).cpu(), torch.cat(known).cpu() if known else None

        pieces = list(in_pieces(len(owners), self._most, run))
        known = [one for _, one in pieces if one is not None]
        every = torch.cat(known) if known and sum(map(len, known)) == len(owners) else None
        return torch.cat([values for values, _ in pieces]), every
