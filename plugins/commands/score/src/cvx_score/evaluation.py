"""Evaluation of explanation methods (``cvx.score``) by several faithfulness measures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from cvx_core import (
    Explainer,
    Explanation,
    Metadata,
    MethodError,
    OptionError,
    Predicted,
    Target,
    UsageError,
    VisionModel,
    did_you_mean,
    wrap,
)
from cvx_core.explainers import run
from cvx_core.images import PreparedImage
from cvx_score.checks.randomization import STAGES, Randomization
from cvx_score.forward import prepare
from cvx_score.measures.amounts import REGIONS, amounts
from cvx_score.measures.completeness import completeness
from cvx_score.measures.curves import NOISE, SHARES, STEPS, deletion, insertion, road
from cvx_score.measures.early_stop import WITHIN
from cvx_score.measures.localization import TOLERANCE, pointing, rank_accuracy, relevance_mass
from cvx_score.measures.pixel_order import on_pixels, read_map
from cvx_score.methods import Method, collect_methods, try_each
from cvx_score.report import MEASURES, NEED_REGION, Score, finite
from cvx_score.targets import (
    Labels,
    Quantity,
    Targets,
    as_target,
    per_image,
    read_labels,
    region_masks,
    target_of,
)

DEFAULT = ("insertion", "deletion", "road", "road-lerf", "completeness")
"""The default measures, with `NEED_REGION` if regions are given."""

Maps = str | Explainer | Sequence[str | Explainer | Explanation] | Mapping[str, Any]
Regions = Any


def score(
    model: VisionModel | nn.Module,
    images: Any,
    explainers: Maps,
    target: Targets = None,
    label: Labels = None,
    *,
    measures: Sequence[str] | None = None,
    regions: Regions = None,
    steps: int = STEPS,
    within: float = WITHIN,
    shares: Sequence[float] = SHARES,
    noise: float = NOISE,
    insertion_from: str = "blur",
    deletion_to: str = "zero",
    tolerance: float = TOLERANCE,
    quantity: Quantity | None = None,
    seed: int = 0,
    memory: int | None = None,
) -> list[Score]:
    """Measure how faithful maps are.

    Parameters
    ----------
    model
        The model, or a network for prepared tensors; it is left unchanged.
    images
        See `cvx_core.explain`.
    explainers
        An explainer or its name, or several; computed explanations of these images; or a mapping
        from names to explainers or to maps (B, h, w) over the network's input.
    target, label
        A target, or a class by name or index; one for all images or one for each. None takes the
        predicted class, and for explanations their own target.
    measures
        Names from `MEASURES`; None takes all but amounts and randomization, and those that require
        a region if regions are given.
    regions
        Regions where maps should point: a `Region`, a box (left, top, right, bottom) in pixels of
        the image, or a mask (H, W) over it; one for all images, or a list of one for each.
    steps, within
        Number of steps of insertion and deletion, and the error bound of their areas; see
        `cvx_score.insertion`.
    shares, noise
        Parameters of ROAD; see `cvx_score.road`.
    insertion_from, deletion_to
        Baselines of insertion and deletion: ``"zero"``, ``"mean"`` or ``"blur"``.
    tolerance
        Tolerance of the pointing game, in pixels of the image.
    quantity
        ``"probability"`` or ``"logit"``; None takes the probability if the target is one class,
        otherwise the seeded logit.
    seed
        Random seed.
    memory
        Memory budget for one batch in bytes; None chooses it from the device.

    Returns
    -------
    list of Score
        By method, then measure. An image for which a measure is undefined has a reason instead of
        a value.

    Raises
    ------
    OptionError
        If a measure is unknown.
    UsageError
        If a measure requires a region and none is given, or the numbers of images and maps differ.

    Examples
    --------
    >>> import cvx_core as cvx
    >>> model = cvx.load_model("embedded")                                   # doctest: +SKIP
    >>> [one] = cvx.score(model, "screwdriver.jpg", "grad-cam",
    ...                   measures=["deletion"])                             # doctest: +SKIP
    """
    model = wrap(model)
    prepared = prepare(model, images)
    chosen = _measures(measures, regions is not None)
    evaluation = _Evaluation(
        model,
        images,
        prepared,
        () if regions is None else region_masks(regions, prepared),
        label,
        {
            "insertion": {"steps": steps, "within": within, "baseline": insertion_from},
            "deletion": {"steps": steps, "within": within, "baseline": deletion_to},
            "road": {"shares": shares, "noise": noise, "least_first": False},
            "road-lerf": {"shares": shares, "noise": noise, "least_first": True},
        },
        tolerance,
        quantity,
        seed,
        memory,
    )
    targets = None
    if target is not None:
        targets = [as_target(one) for one in per_image(target, len(prepared), "targets", str)]
    found: list[Score] = []
    for method in collect_methods(
        model, images, prepared, explainers, targets, label, seed, memory
    ):
        own = targets
        if own is None and method.explanations is not None:
            own = [target_of(one.target) for one in method.explanations]
        for measure in chosen:
            started = time.perf_counter()
            parts = evaluation.measure(measure, method, own)
            seconds = time.perf_counter() - started
            found.append(Score(method.name, measure, seconds=seconds, **parts))
    return found


def _measures(names: Sequence[str] | None, with_regions: bool) -> list[str]:
    if names is None:
        return [*DEFAULT, *(NEED_REGION if with_regions else ())]
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    for name in names:
        if name not in MEASURES:
            raise OptionError(
                f"Unknown measure {name!r}.",
                did_you_mean(name, MEASURES) or "Available: " + ", ".join(MEASURES) + ".",
            )
        if name in NEED_REGION and not with_regions:
            raise UsageError(
                f"The measure {name!r} requires a region.",
                "Pass regions=... (--region on the command line).",
            )
    if not names:
        raise OptionError("measures is empty.", "Available: " + ", ".join(MEASURES) + ".")
    return names


@dataclass(frozen=True, eq=False)
class _Evaluation:
    """The images and options of one call; `measure` returns the parts of a `Score`."""

    model: VisionModel
    images: Any
    prepared: Sequence[PreparedImage]
    masks: Sequence[np.ndarray[Any, Any]]
    label: Labels
    curve_options: Mapping[str, dict[str, Any]]
    tolerance: float
    quantity: Quantity | None
    seed: int
    memory: int | None
    costs: dict[Any, Any] = field(default_factory=dict)

    def measure(self, name: str, method: Method, targets: list[Target] | None) -> dict[str, Any]:
        """Measure all maps of a method."""
        if name in self.curve_options:
            return self._curves(name, method, targets)
        if name == "completeness":
            return self._completeness(method, targets)
        if name == "amounts":
            return self._amounts(method, targets)
        if name == "randomization":
            return self._randomization(method, targets)
        return self._localization(name, method)

    def _curves(self, name: str, method: Method, targets: list[Target] | None) -> dict[str, Any]:
        """Run the curves of all images whose map has an order."""
        count = len(self.prepared)
        _, reasons = try_each(count, lambda i: read_map(method.maps[i]))
        good = [i for i, reason in enumerate(reasons) if not reason]
        values: list[float | None] = [None] * count
        if not good:
            return {"values": tuple(values), "reasons": reasons, "quantity": ""}
        options = self.curve_options[name]
        curves = {"insertion": insertion, "deletion": deletion}.get(name, road)(
            *self._chosen(good, method, targets),
            quantity=self.quantity,
            seed=self.seed,
            memory=self.memory,
            **options,
        )
        lines: list[tuple[float | None, ...]] = [()] * count
        run_steps: list[list[int]] = [[] for _ in self.prepared]
        for k, i in enumerate(good):
            values[i] = finite(float(curves.scores[k]))
            lines[i] = tuple(map(finite, curves.values[k].tolist()))
            run_steps[i] = np.flatnonzero(curves.measured[k]).tolist()
        stored = {k: v for k, v in options.items() if k not in ("shares", "least_first")}
        accuracy = None if curves.accuracy is None else curves.accuracy.tolist()
        return {
            "values": tuple(values),
            "reasons": reasons,
            "quantity": curves.quantity,
            "shares": tuple(map(float, curves.shares)),
            "curves": tuple(lines),
            "passes": curves.passes,
            "details": Metadata({**stored, "accuracy": accuracy, "measured": run_steps}),
        }

    def _chosen(self, chosen: list[int], method: Method, targets: list[Target] | None) -> Any:
        """Return the first arguments of a measure for some of the images."""
        labels = read_labels(self.model, self.label, self.prepared)
        return (
            self.model,
            [self.prepared[i] for i in chosen],
            [method.maps[i] for i in chosen],
            None if targets is None else [targets[i] for i in chosen],
            [labels[i] for i in chosen],
        )

    def _completeness(self, method: Method, targets: list[Target] | None) -> dict[str, Any]:
        """Take the residuals of explanations; measure other maps with a sum against zero."""
        known = [None if e is None else e.evidence.get("residual") for e in method.each()]
        values = [None if residual is None else float(residual) for residual in known]
        reasons = [
            "" if e is None or e.additive else "the map has no meaningful sum"
            for e in method.each()
        ]
        missing = [i for i, one in enumerate(known) if one is None and not reasons[i]]
        passes = 0
        if missing:
            found = completeness(*self._chosen(missing, method, targets), memory=self.memory)
            passes = found.passes
            for i, gap in zip(missing, found.scores, strict=True):
                values[i] = float(gap)
        against = ["zero" if residual is None else "evidence" for residual in known]
        return {
            "values": tuple(values),
            "reasons": tuple(reasons),
            "quantity": "gap",
            "passes": passes,
            "details": Metadata({"against": against}),
        }

    def _amounts(self, method: Method, targets: list[Target] | None) -> dict[str, Any]:
        """Compare the sums of maps in random boxes with what removing the boxes costs."""
        count = len(self.prepared)
        _, reasons = try_each(count, lambda i: read_map(method.maps[i]))
        good = [i for i, reason in enumerate(reasons) if not reason]
        values: list[float | None] = [None] * count
        if not good:
            return {"values": tuple(values), "reasons": reasons, "quantity": "correlation"}
        found = amounts(
            *self._chosen(good, method, targets),
            seed=self.seed,
            memory=self.memory,
            costs=self.costs,
        )
        for k, i in enumerate(good):
            values[i] = finite(found.scores[k])
        details: dict[str, Any] = {
            "regions": REGIONS,
            "correlation": finite(found.correlation),
        }
        each = [one for one in method.each() if one is not None]
        unit = self.model.task.unit or "value"
        units = {one.target.unit or unit for one in each} or {unit}
        # The slope relates sums of the map to changes of the score, so both need one unit.
        if len(units) == 1 and all(one.unit in units and one.additive for one in each):
            [unit] = units
            details |= {
                "unit": unit,
                "slope": finite(found.slope),
                "slopes": [finite(slope) for slope in found.slopes],
            }
        return {
            "values": tuple(values),
            "reasons": reasons,
            "quantity": "correlation",
            "passes": found.passes,
            "details": Metadata(details),
        }

    def _randomization(self, method: Method, targets: list[Target] | None) -> dict[str, Any]:
        """Compare maps with those of random networks.

        Adebayo et al. 2018 (arXiv:1810.03292), with `cvx_score.checks.randomization`. The value is
        the largest mean rank correlation over the stages, on which the verdict is based; for maps
        that don't depend on the target, the correlation with all weights random.
        """
        explanations = method.each()
        if method.explainer is not None:
            explanations = run(
                self.model,
                self.images,
                [method.explainer],
                targets or [Predicted()] * len(method.maps),
                self.label,
                self.seed,
                budget=self.memory,
                checks=[Randomization()],
            )

        def read(i: int) -> tuple[float, tuple[float | None, ...], str]:
            explanation = explanations[i]
            sanity = None if explanation is None else explanation.evidence.get("sanity")
            if explanation is None or sanity is None:
                raise MethodError(
                    "The map was not compared with maps of random networks.",
                    "Pass the explainer, or explain with sanity=True.",
                )
            by_stage = sanity["correlation"]
            counted = STAGES if explanation.evidence.get("class_specific", True) else ["all"]
            if not all(stage in by_stage for stage in counted):
                raise MethodError(str(sanity["reason"]))
            largest = max(by_stage[stage] for stage in counted)
            return largest, tuple(by_stage.get(stage) for stage in STAGES), sanity["verdict"]

        found, reasons = try_each(len(explanations), read)
        values, curves, verdicts = zip(*(one or (None, (), None) for one in found), strict=True)
        return {
            "values": values,
            "reasons": reasons,
            "quantity": "correlation",
            "shares": tuple(STAGES),
            "curves": curves,
            "passes": None,
            "details": Metadata({"verdicts": verdicts}),
        }

    def _localization(self, name: str, method: Method) -> dict[str, Any]:
        def measured(i: int) -> float:
            image, mask = self.prepared[i], self.masks[i]
            values = on_pixels(read_map(method.maps[i]), mask.shape)
            if name == "mass":
                return relevance_mass(values, mask)
            if name == "rank":
                return rank_accuracy(values, mask, self.seed)
            left, top, right, bottom = image.extent
            scale = (right - left) / mask.shape[1], (bottom - top) / mask.shape[0]
            return pointing(values, mask, self.tolerance, scale, self.seed)

        values, reasons = try_each(len(self.prepared), measured)
        details: dict[str, Any] = {"area": [float(mask.mean()) for mask in self.masks]}
        if name == "pointing":
            details["tolerance"] = self.tolerance
        return {
            "values": tuple(values),
            "reasons": reasons,
            "quantity": "hit" if name == "pointing" else "share",
            "details": Metadata(details),
        }
