"""Explanation at all levels of a feature pyramid: a map for each, added up.

Detectors read several grids, coarse and fine. A method at one layer runs once for each level, and
its maps are summed on the finest grid, each keeping its own sum. Levels on which the target does
not depend (those of the boxes, for the score of a class) are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvx_core.errors import LayerError
from cvx_core.explainers.method import Attribution, Method
from cvx_core.explainers.request import ExplainRequest
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Requirements
from cvx_core.recording.layer_selection.selection import find_last_grid, find_levels


def at_all_levels(
    explainer: Method, model: VisionModel, inputs: Tensor, parts: frozenset[int] | None = None
) -> Method:
    """Return the explainer itself, or one for all levels that the prediction is read from.

    Only levels count that the given parts of the output are read from; see `find_levels`.

    An explainer runs level by level if the model reads several and its parameter ``layer`` is
    ``"auto"``, its default; one that names other layers is left alone. So are the explainers that
    it is made of.
    """
    if not model.task.pyramid:
        return explainer
    try:
        names = [layer.name for layer in find_levels(model, inputs, parts)]
    except LayerError:  # methods at the input need no layer, and the others say so themselves
        return explainer
    if names == [find_last_grid(model, inputs).name]:  # what "auto" finds
        return explainer
    return _at(explainer, names)


def _at(explainer: Method, names: Sequence[str]) -> Method:
    if not is_dataclass(explainer):
        return explainer
    given = {f.name: getattr(explainer, f.name) for f in fields(explainer)}
    # Explainers that take several layers at once refuse one beside them.
    if given.get("layer") == "auto" and not given.get("layers"):
        parts = tuple(replace(explainer, layer=name) for name in names)
        return Levels(explainer, parts)
    inner: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, Method):
            inner[key] = _at(value, names)
        elif isinstance(value, tuple) and value and all(isinstance(v, Method) for v in value):
            inner[key] = tuple(_at(one, names) for one in value)
    return replace(explainer, **inner) if inner else explainer


@dataclass(frozen=True)
class Levels(Method):
    """An explainer that runs at several levels.

    Attributes
    ----------
    explainer
        As requested: its name, parameters, unit and kind are this one's too.
    parts
        The same with its layer named, one for each level.
    """

    explainer: Method
    parts: tuple[Method, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_name", self.explainer.name)
        for trait in ("default_target", "signed", "unit", "class_specific", "needs_gradient"):
            object.__setattr__(self, trait, getattr(self.explainer, trait))

    def parameters(self) -> dict[str, Any]:
        """Return the explainer's."""
        return self.explainer.parameters()

    def requirements(self) -> list[Requirements]:
        """Ask for what the parts ask."""
        return [need for part in self.parts for need in part.recordings()]

    def attribute(self, request: ExplainRequest) -> list[Attribution]:
        """Return the sums of the levels' maps, (B, h, w) of the finest."""
        if not self.class_specific:
            several = [part.attribute(request) for part in self.parts]
            return [_added(ones) for ones in zip(*several, strict=True)]
        depends = self._depends(request)
        if not depends.any():  # a network without gradient: each method says so itself
            depends = torch.ones_like(depends)
        made = {
            k: part.attribute(request)
            for k, part in enumerate(self.parts)
            if depends[:, k].any()  # a method may fail at a layer that leads nowhere
        }
        first = next(iter(made.values()))
        several = [made.get(k) or self._nothing(k, request, first) for k in range(len(self.parts))]
        return [
            _added([_only(one, images) for one, images in zip(ones, depends[s], strict=True)])
            for s, ones in enumerate(zip(*several, strict=True))
        ]

    def _layer(self, part: Method) -> str:
        return str(getattr(part, "layer", ""))

    def _nothing(
        self, level: int, request: ExplainRequest, alike: Sequence[Attribution]
    ) -> list[Attribution]:
        """Return attributions of zeros for a level, like those of another."""
        layer = request.layout.find(self._layer(self.parts[level]))
        zeros = alike[0].values.new_zeros((len(request.images), *layer.grid))
        provenance = {**alike[0].provenance, "layer": layer.name}
        return [Attribution(zeros, {}, provenance, one.unit, one.additive) for one in alike]

    def _depends(self, request: ExplainRequest) -> Tensor:
        """Return whether the seeded output depends on a level: (seeds, levels, images)."""
        names = [self._layer(part) for part in self.parts]
        # Keys of attention carry nothing where its probabilities are frozen.
        gates = {one.gates for part in self.parts for one in part.recordings()}
        frozen = gates == {"frozen"}
        recording = request.recording(Requirements(*names, gates="frozen" if frozen else "native"))
        return torch.stack(
            [
                torch.stack(
                    [
                        gradient.flatten(1).ne(0).any(dim=1)
                        for gradient in recording.gradients(seed, *names, missing="zero")
                    ]
                )
                for seed in request.seeds(recording.logits)
            ]
        )


def _only(one: Attribution, images: Tensor) -> Attribution:
    """Return an attribution that is zero for images that don't depend on its layer."""
    return replace(one, values=one.values * images[:, None, None].to(one.values))


def _added(ones: Sequence[Attribution]) -> Attribution:
    shapes = [(one.values.shape[1], one.values.shape[2]) for one in ones]
    finest = max(shapes, key=lambda shape: shape[0] * shape[1])
    values = torch.stack([spread(one.values, finest) for one in ones]).sum(0)
    rows = [
        {
            "layer": one.provenance.get("layer", ""),
            "grid": list(shape),
            "sum": one.values.double().sum(dim=(1, 2)),
            **{key: one.evidence[key] for key in ("residual",) if key in one.evidence},
        }
        for one, shape in zip(ones, shapes, strict=True)
    ]
    evidence: dict[str, Any] = {"levels": rows}
    conserved = [one for one in ones if {"total", "other_tokens"} <= one.evidence.keys()]
    if conserved:
        evidence |= _parts(conserved, values)
    provenance = {
        **ones[0].provenance,
        "layer": ", ".join(str(row["layer"]) for row in rows),
        "layer_reason": "the levels that the prediction is read from; their maps are added up",
    }
    additive = all(one.additive for one in ones)
    return Attribution(values, evidence, provenance, ones[0].unit, additive)


def _parts(ones: Sequence[Attribution], values: Tensor) -> dict[str, Any]:
    """Return what positions of all levels, other tokens and constants add to the score, (B,)."""
    total = ones[0].evidence["total"]
    others = torch.stack([one.evidence["other_tokens"] for one in ones]).sum(0)
    cells = values.double().sum(dim=(1, 2))
    constant = total - cells - others
    elsewhere = others.abs() + constant.abs()
    return {
        "total": total,
        "other_tokens": others,
        "constant_part": constant,
        "non_pixel_share": elsewhere / (elsewhere + cells.abs()).clamp_min(1e-300),
    }


def spread(values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Spread maps (B, h, w) over a finer grid (B, *shape), evenly: each keeps its sum.

    Positions of the fine grid that lie in two of the coarse one get a part of both.
    """
    rows, columns = (
        _shares(coarse, fine).to(values)
        for coarse, fine in zip(values.shape[1:], shape, strict=True)
    )
    return torch.einsum("bhw,hy,wx->byx", values, rows, columns)


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge maps (B, h, w) smoothly to (B, *size): each keeps its sum.

    Interpolation changes sums at borders; what is missing is spread evenly.
    """
    if tuple(maps.shape[1:]) == size:
        return maps
    fine = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    fine = fine * (maps[0].numel() / fine[0].numel())
    missing = maps.sum(dim=(1, 2)) - fine.sum(dim=(1, 2))
    return fine + missing[:, None, None] / fine[0].numel()


def agreement(maps: Sequence[Tensor]) -> Tensor:
    """Return what maps (B, h, w) of one score agree on, on the finest grid (B, H, W).

    Each is scaled by its largest absolute value; a position gets the value nearest to zero, or 0
    where signs differ. The result is in units of the first map, spread over the finer grid. The
    opposite of all maps has the opposite result. Its sum means nothing, so give the `Attribution`
    ``additive=False``.

    Examples
    --------
    >>> agreement([torch.tensor([[[4.0, -2.0, 1.0]]]), torch.tensor([[[5.0, -10.0, -1.0]]])])
    tensor([[[ 2., -2.,  0.]]])
    """
    size = max((one.shape[1:] for one in maps), key=lambda shape: shape[0] * shape[1])
    fine = torch.stack(
        [
            F.interpolate(one[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]
            for one in maps
        ]
    )
    largest = fine.abs().amax(dim=(2, 3), keepdim=True)
    scaled = fine / torch.where(largest > 0, largest, 1)
    same = (scaled.sign() == scaled[0].sign()).all(dim=0)
    agreed = torch.where(same, scaled[0].sign() * scaled.abs().amin(dim=0), 0)
    return agreed * largest[0] * (maps[0][0].numel() / size.numel())


def _shares(coarse: int, fine: int) -> Tensor:
    """Return how much of each of `coarse` equal cells lies in each of `fine`, (coarse, fine)."""
    edges = torch.arange(fine + 1, dtype=torch.float64) * coarse / fine
    cells = torch.arange(coarse, dtype=torch.float64)[:, None]
    low, high = torch.maximum(edges[:-1], cells), torch.minimum(edges[1:], cells + 1)
    return (high - low).clamp_min(0)
