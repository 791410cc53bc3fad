"""Amounts: the logits that a map gives to regions, beside those that removing the regions costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cvx_core import OptionError, VisionModel
from cvx_core.images import make_baseline
from cvx_score.forward import check_count, in_shapes, prepare
from cvx_score.measures.imputation import impute
from cvx_score.measures.perturbations import PerturbationRunner
from cvx_score.measures.pixel_order import Values, read_map
from cvx_score.targets import Labels, Targets, resolve_targets

REGIONS = 16
"""Number of random regions of each image."""

FILLS = ("mean", "blur", "imputation")
"""What regions are replaced by: the mean color, the blurred image, and their surroundings."""

_SIDES = 0.15, 0.5


@dataclass(frozen=True, eq=False)
class Amounts:
    """What maps give to regions, and what removing the regions costs, for each image.

    Attributes
    ----------
    amounts
        float64 (B, R): sums of the map in each region.
    changes
        float64 (B, R): seeded logit of the image minus that without the region, the mean over
        `FILLS`.
    scores
        float64 (B,): Pearson's correlation of the two over the regions; nan if one is constant.
    slopes
        float64 (B,): the change for each logit of the map, by least squares through zero; nan if
        all amounts are zero.
    passes
        Images in forward passes.
    """

    amounts: Values
    changes: Values
    scores: Values
    slopes: Values
    passes: int

    @property
    def correlation(self) -> float:
        """Correlation over the regions of all images."""
        return _correlation(self.amounts.ravel(), self.changes.ravel())

    @property
    def slope(self) -> float:
        """Slope over the regions of all images."""
        return _slope(self.amounts.ravel(), self.changes.ravel())


def amounts(
    model: VisionModel,
    images: Any,
    maps: Any,
    target: Targets = None,
    label: Labels = None,
    *,
    regions: int | Sequence[npt.NDArray[np.bool_]] = REGIONS,
    seed: int = 0,
    memory: int | None = None,
    costs: dict[Any, Values] | None = None,
) -> Amounts:
    """Return what maps give to regions beside the change of the logit when they are removed.

    A map in logits is taken at its word: a region of 2 logits should cost 2 logits. Removal is the
    sensitivity-n test of Ancona et al. 2018 (arXiv:1711.06104), with regions instead of single
    pixels and three fills instead of zero. A slope of 1 means that the map's numbers are what
    removal costs; networks that saturate cost less than the map gives.

    Parameters
    ----------
    model, images, target, label
        See `cvx_score.insertion`.
    maps
        One (h, w) for each image over the network's input, at native resolution: a cell's value
        is spread evenly over its pixels.
    regions
        Number of random boxes, the same for each image of a size, or masks (R, H, W) over the
        network's input, one array for each image.
    seed
        Seed of the boxes.
    costs
        Changes of earlier calls for the same model and images, by target; they are not measured
        again, and new ones are added.

    Raises
    ------
    OptionError
        If there are less than 2 regions.
    MethodError
        If a map is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from cvx_core.testing import models
    >>> from cvx_score import amounts
    >>> model, images = models.convolutional(), models.inputs(2)
    >>> found = amounts(model, images, np.random.default_rng(0).normal(size=(2, 4, 4)), regions=8)
    >>> found.amounts.shape, found.passes
    ((2, 8), 50)
    """
    prepared = prepare(model, images)
    several = list(maps)
    check_count(several, prepared)
    if isinstance(regions, bool) or (isinstance(regions, int) and regions < 2):
        raise OptionError(f"regions must be 2 or more, got {regions!r}.")
    targets = resolve_targets(model, prepared, target, label, "logit")
    shape = [tuple(one.tensor.shape[1:]) for one in prepared]
    masks = [
        random_boxes(shape[i], regions, seed) if isinstance(regions, int) else regions[i]
        for i in range(len(prepared))
    ]
    given = [region_sums(read_map(one, f"Map {i}"), masks[i]) for i, one in enumerate(several)]
    costs = {} if costs is None else costs
    keys = [
        (i, one.seed.cpu().numpy().tobytes(), masks[i].tobytes()) for i, one in enumerate(targets)
    ]
    passes = len(prepared)
    for chosen in in_shapes(prepared):
        missing = [i for i in chosen if keys[i] not in costs]
        if not missing:
            continue
        group = [targets[i] for i in missing]
        runner = PerturbationRunner(model, group, memory)
        for k, i in enumerate(missing):
            versions = _without(prepared[i].tensor, torch.from_numpy(masks[i]))
            left, _ = runner.run([k] * len(versions), partial(_rows, versions))
            costs[keys[i]] = group[k].record.score - left.view(len(FILLS), -1).mean(0).numpy()
        passes += runner.passes
    changes = [costs[key] for key in keys]
    pairs = list(zip(given, changes, strict=True))
    return Amounts(
        np.stack(given),
        np.stack(changes),
        np.array([_correlation(*pair) for pair in pairs]),
        np.array([_slope(*pair) for pair in pairs]),
        passes,
    )


def _rows(inputs: Tensor, start: int, stop: int) -> Tensor:
    return inputs[start:stop]


def random_boxes(shape: Sequence[int], count: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return random boxes (count, H, W) with sides of 15 to 50 % of the image's."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *shape), dtype=bool)
    for mask in masks:
        sizes = [max(1, round(rng.uniform(*_SIDES) * side)) for side in shape]
        top, left = (int(rng.integers(0, s - n + 1)) for s, n in zip(shape, sizes, strict=True))
        mask[top : top + sizes[0], left : left + sizes[1]] = True
    return masks


def region_sums(values: Values, masks: npt.NDArray[np.bool_]) -> Values:
    """Return the sum (R,) of a map (h, w) in each mask (R, H, W), cells cut where the mask is."""
    rows, columns = (
        _shares(n, size) for n, size in zip(values.shape, masks.shape[1:], strict=True)
    )
    return np.asarray(np.einsum("ij,iy,jx,ryx->r", values, rows, columns, masks, optimize=True))


def _shares(cells: int, pixels: int) -> Values:
    """Return the share (cells, pixels) of each cell's length that lies in each pixel."""
    edges = np.linspace(0, pixels, cells + 1)
    low, high = np.arange(pixels), np.arange(1, pixels + 1)
    overlap = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
    return np.asarray(overlap.clip(0) * cells / pixels)


def _without(image: Tensor, masks: Tensor) -> Tensor:
    """Return the image (C, H, W) without each region, (fills * R, C, H, W)."""
    masks = masks.to(image.device)
    fills = [make_baseline(name, image[None]) for name in FILLS[:2]]
    found = [torch.where(masks[:, None], fill, image) for fill in fills]
    return torch.cat([*found, impute(image.expand(len(masks), -1, -1, -1), masks)])


def _correlation(first: Values, second: Values) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _slope(first: Values, second: Values) -> float:
    total = float(first @ first)
    return float(first @ second / total) if total else float("nan")
