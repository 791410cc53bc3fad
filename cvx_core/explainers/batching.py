"""Batch sizes within a memory budget, halved where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import torch

from cvx_core._util.modules import weights
from cvx_core.recording.layers.layout import Layout
from cvx_core.recording.recording import Recording
from cvx_core.recording.saved_tensors import storages

if TYPE_CHECKING:
    from cvx_core.models.vision_model import VisionModel

T = TypeVar("T")


def images_at_once(model: VisionModel, image: torch.Tensor, budget: int | None) -> int:
    """Return how many images (C, H, W) a byte budget lets run together, 1 or more.

    Without a budget half of the memory that a GPU has left is taken, or 2 GiB. The prediction
    of a network that computes statistics over its batch depends on the other images: its images
    run one by one.
    """
    if _mixes_images(model, image):
        return 1
    if budget is None:
        if image.device.type == "cuda":
            budget = int(torch.cuda.mem_get_info(image.device)[0]) // 2
        else:
            budget = 2 * 1024**3
    return max(1, budget // max(1, Layout.of(model, image[None]).bytes_per_image))


def _mixes_images(model: VisionModel, image: torch.Tensor) -> bool:
    """Whether the prediction for an image depends on what else is in the batch."""

    def compute() -> bool:
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image)
        alone = model.logits(image[None])[0].float()
        beside = model.logits(torch.stack([image, noise]))[0].float()
        coarse = image.dtype in (torch.float16, torch.bfloat16)
        tolerance = (0.1 if coarse else 1e-3) * float(alone.abs().max())
        return bool((alone - beside).abs().max() > tolerance)

    return model.facts.find(compute, "mixes images", image.shape)


def in_pieces(count: int, most: int, run: Callable[[int, int], T]) -> Iterator[T]:
    """Yield ``run(start, stop)`` for consecutive pieces of `count` items, in order.

    Parameters
    ----------
    most
        Items in a piece. Where memory runs out it is halved, for the rest too.
    run
        May be called again for items it failed on, so it must not consume anything.

    Raises
    ------
    torch.OutOfMemoryError, MemoryError
        If memory does not suffice for a single item.
    """
    start = 0
    while start < count:
        stop = min(count, start + max(1, most))
        try:
            found = run(start, stop)
        except (torch.OutOfMemoryError, MemoryError):
            if stop - start == 1:
                raise
            most = (stop - start) // 2
            found = None
        if found is None:
            # Outside of the handler, whose traceback would keep the tensors alive.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        yield found
        start = stop


def kept_memory(recording: Recording) -> dict[tuple[torch.device, int], int]:
    """Return the bytes of each piece of memory that a recording keeps alive, by its address.

    Activations at layers, what the backward pass and a replay will need, requested
    attention, and the logits; memory that several of these share is counted once. The model's
    weights are not counted.
    """
    optional = [*(recording.mode.attention or [])]
    if recording.baseline_logits is not None:
        optional.append(recording.baseline_logits)
    if recording.kept_constants is not None:
        for pair in recording.kept_constants.kept:
            optional += pair
    kept = storages(
        [
            recording.logits,
            *recording.nodes.values(),
            *recording.baselines.values(),
            *recording.saved.tensors(),
            *optional,
        ]
    )
    own = storages(weights(recording.model.module))
    return {address: size for address, size in kept.items() if address not in own}
