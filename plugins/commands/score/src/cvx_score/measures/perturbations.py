"""Trials: changed versions of images, run through the network and measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cvx_core import VisionModel
from cvx_core.explainers import in_pieces
from cvx_score.forward import at_once, layout, rows
from cvx_score.targets import Asked


class Trials:
    """Runs changed versions of images, as many at once as fit, and measures the answers.

    Parameters
    ----------
    model
        The network.
    asked
        The questions, of images of one shape.
    memory
        Bytes that images run together may take; None chooses from the device's memory.

    Attributes
    ----------
    passes
        Images that went through the network so far.
    """

    def __init__(self, model: VisionModel, asked: Sequence[Asked], memory: int | None) -> None:
        self.model, self.asked, self.passes = model, list(asked), 0
        one = asked[0].image.tensor
        self._most = at_once(model, one, memory)
        self._layout = layout(model)

    def run(
        self, owners: Sequence[int], make: Callable[[int, int], Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Return the quantity of each changed image (n,), float64 on the CPU, and what came first.

        Parameters
        ----------
        owners
            Which image each is a version of, in order: equal ones side by side.
        make
            From start and stop to those versions, (stop - start, C, H, W).

        Returns
        -------
        tuple
            The values, and whether the first answer is the class asked about, of classifiers.
        """

        def run(start: int, stop: int) -> tuple[Tensor, Tensor | None]:
            inputs = make(start, stop).contiguous(memory_format=self._layout)
            found = self.model.output(inputs)
            self.passes += stop - start
            values, firsts, a = [], [], 0
            for owner in dict.fromkeys(owners[start:stop]):
                b = a + list(owners[start:stop]).count(owner)
                part = rows(found, a, b)
                values.append(self.asked[owner].values(part))
                firsts.append(self.asked[owner].first(part))
                a = b
            known = [one for one in firsts if one is not None]
            return torch.cat(values).cpu(), torch.cat(known).cpu() if known else None

        pieces = list(in_pieces(len(owners), self._most, run))
        firsts = [first for _, first in pieces if first is not None]
        every = torch.cat(firsts) if firsts and sum(map(len, firsts)) == len(owners) else None
        return torch.cat([values for values, _ in pieces]), every
