"""Outputs of models: where the scores are in what a model returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from cvx_core.errors import ModelError

Classes = Sequence[str] | int | None
"""Names of a model's classes, or their number; None if it is unknown."""

_NAMES = ("logits", "out", "scores", "prediction")


_EXAMPLES = {
    2: " For the logit of one of two classes: lambda z: torch.stack([-z, z], 1) / 2.",
    4: " For the logits of one channel: lambda z: z[:, None].",
}
"""Readouts of tensors that lack one dimension, by the number of dimensions of the scores."""


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """Parsed output of a model for a batch.

    Attributes
    ----------
    scores
        Logits (B, C, ...), unless a subclass says otherwise.
    """

    scores: Tensor

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.scores.shape[1]

    @property
    def named(self) -> int:
        """How many of the classes have names."""
        return self.classes

    @property
    def flat(self) -> Tensor:
        """All outputs (B, N), with their graph: what seeds are vectors over."""
        return self.scores.flatten(1)

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """Parts of `flat` (B, n) that a target may be about one without another, in order."""
        return (self.flat,)

    def rows(self, start: int, stop: int) -> ModelOutput:
        """Return the output of some images of the batch."""
        return ModelOutput(self.scores[start:stop])

    def detached(self) -> ModelOutput:
        """Return the output without its graph."""
        return ModelOutput(self.scores.detach())


def find_named(output: Any, name: str) -> Any:
    """Return an entry of a mapping or an attribute of an object; None if it has none."""
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def class_count(classes: Classes) -> int | None:
    """Return how many classes there are, if it is known."""
    return classes if classes is None or isinstance(classes, int) else len(classes)


def read_scores(
    output: Any, dimensions: int, classes: Classes = None, *, single: bool = False
) -> Tensor:
    """Return the tensor of scores in what a model returned.

    Reads a tensor, an object or mapping with ``logits`` (or ``out``, ``scores``, ``prediction``),
    or the only tensor that fits in a mapping, tuple, list or dataclass. Of several shapes the one
    with as many columns as there are classes is read, and of several of one shape the one that the
    others are probabilities of.

    Parameters
    ----------
    output
        What the model returned.
    dimensions
        Number of dimensions of the scores: 2 of (B, C), 4 of (B, C, h, w).
    classes
        Names of the model's classes, or their number; None if it is unknown.
    single
        Whether a tensor (B,) holds one value for each image.

    Raises
    ------
    ModelError
        If there is none, or several could be meant.
    """
    shape = "(B, C)" if dimensions == 2 else "(B, C, h, w)"
    first = output[0] if isinstance(output, list | tuple) and output else None
    if isinstance(first, Mapping) and "boxes" in first:
        raise ModelError(
            f"The model must return scores {shape}, got boxes.",
            "cvx_core.wrap(module) reads a detector of a library that cvx loads models of; so does "
            "-m file.py:factory.",
        )
    named = [("", output)] if isinstance(output, Tensor) else list(_tensors(output))
    fitting = [
        (key, _fit(one, dimensions, single=single, alone=len(named) == 1)) for key, one in named
    ]
    usable = [(key, one) for key, one in fitting if one is not None]
    if not usable:
        seen = ", ".join(
            f"{key}: {tuple(t.shape)}" if key else str(tuple(t.shape)) for key, t in named
        )
        more = _EXAMPLES[dimensions] if getattr(output, "ndim", 0) == dimensions - 1 else ""
        raise ModelError(
            f"The model must return scores {shape}, got {seen or type(output).__name__}.",
            f"Pass readout=... to VisionModel: a function from that output to scores {shape}."
            + more,
        )
    if len({one.shape for _, one in usable}) > 1:
        usable = [
            (key, one) for key, one in usable if one.shape[1] == class_count(classes)
        ] or usable
    differ = len({one.shape for _, one in usable}) > 1
    if differ or usable[0][0] not in _NAMES[:2]:
        usable = usable if differ else _of_one_meaning(usable)
        if len(usable) > 1:
            seen = ", ".join(f"{key}: {tuple(one.shape)}" for key, one in usable)
            ways = ", or ".join(f"lambda o: {_path(output, key)}" for key, _ in usable[:3])
            names = " Or pass the class names of one." if differ else ""
            raise ModelError(
                f"The model returned several tensors of scores: {seen}.",
                f"Choose one with VisionModel(..., readout=...): {ways}.{names}",
            )
    return usable[0][1]


def _tensors(output: Any) -> list[tuple[Any, Tensor]]:
    """Return the tensors of an output with their keys; those with usual names alone."""
    usual = [(name, find_named(output, name)) for name in _NAMES]
    found = [(name, one) for name, one in usual if isinstance(one, Tensor)]
    if found:
        return found
    entries: list[tuple[Any, Any]] = []
    if isinstance(output, Mapping):
        entries = list(output.items())
    elif is_dataclass(output):
        entries = [(field.name, getattr(output, field.name)) for field in fields(output)]
    elif isinstance(output, tuple | list):
        entries = list(zip(getattr(output, "_fields", range(len(output))), output, strict=True))
    return [(key, one) for key, one in entries if isinstance(one, Tensor)]


def _path(output: Any, key: Any) -> str:
    """Return how an entry of an output is written in Python."""
    attribute = not isinstance(output, Mapping) and isinstance(key, str)
    return f"o.{key}" if attribute else f"o[{key!r}]"


def _of_one_meaning(several: list[tuple[Any, Tensor]]) -> list[tuple[Any, Tensor]]:
    """Return the tensor alone that all others are equal to or probabilities of, if there is one."""
    if any(one.is_meta for _, one in several):  # shapes alone, of an output that was read before
        return several[:1]
    for key, one in several:
        readings = [one, one.softmax(1), one.log_softmax(1), one.sigmoid()]
        if all(any(_near(other, r) for r in readings) for _, other in several):
            return [(key, one)]
    return several


def _near(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True)


def _fit(tensor: Tensor, dimensions: int, *, single: bool, alone: bool) -> Tensor | None:
    """Return a tensor with a number of dimensions, without trailing ones; else None.

    Without ones in the middle too, where it is `alone` and all of them must go.
    """
    if single and tensor.ndim == 1:
        return tensor[:, None]
    while tensor.ndim > dimensions and tensor.shape[-1] == 1:
        tensor = tensor.squeeze(-1)
    ones = [k for k in range(1, tensor.ndim) if tensor.shape[k] == 1]
    if alone and dimensions == 2 and 0 < len(ones) == tensor.ndim - dimensions:
        tensor = tensor.squeeze(ones)
    return tensor if tensor.ndim == dimensions else None


def shape_of(found: Any) -> str:
    """Return what a readout gave, for people."""
    return str(tuple(found.shape)) if hasattr(found, "shape") else "candidates"
