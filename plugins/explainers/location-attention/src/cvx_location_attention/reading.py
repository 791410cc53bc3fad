"""Which tokens of a transformer its answer reads: a class token, all of them, or some."""

from __future__ import annotations

import torch
from torch import Tensor

from cvx_core import Needs, Recording
from cvx_core.recording import Layout, Place

_LAST = 6


def tokens_read(recording: Recording, place: Place) -> Tensor:
    """Return which tokens, class and register tokens first, the answer reads after the last layer.

    They are those with a gradient at the last place that has tokens like `place` and any gradient
    at all. Names and positions don't tell: the first token of a network that averages its
    patches may be a register.

    Returns
    -------
    torch.Tensor
        Boolean (prefix + h * w,), on the CPU. Found once for each model and input size.
    """
    model, image = recording.model, recording.inputs[:1]
    key = ("tokens read", tuple(image.shape[1:]), place.shape[0])
    if key not in model.cache:
        alike = [
            p.name
            for p in Layout.of(model, image).places
            if p.kind == "tokens" and (p.prefix, p.grid) == (place.prefix, place.grid)
        ][-_LAST:]
        with Recording(model, image, Needs(*alike)) as probe:
            noise = torch.randn(probe.logits.shape, generator=torch.Generator().manual_seed(0))
            seed = noise.to(probe.logits)
            gradients = probe.gradients(seed, *alike, missing="zero")
        found = [gradient[0].ne(0).any(dim=1).cpu() for gradient in gradients]
        everything = torch.ones(place.shape[0], dtype=torch.bool)
        model.cache[key] = next((read for read in reversed(found) if read.any()), everything)
    read: Tensor = model.cache[key]
    return read
