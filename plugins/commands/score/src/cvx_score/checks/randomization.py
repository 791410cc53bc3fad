"""Model-randomization check: the dependence of a map on the weights of the network.

Adebayo et al. 2018 (arXiv:1810.03292) replace the weights of a network by random ones, layer by
layer from the output on, and compute the map again. A map that does not change is not an
explanation: an untrained network would give the same. docs/explanation/sanity.md gives the reasons
for the decisions below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cvx_core import CvxError
from cvx_core.explainers import (
    Attributed,
    Check,
    ExplainRequest,
    Method as Explainer,
    images_at_once,
    in_pieces,
)
from cvx_core.models import VisionModel
from cvx_score.checks.random_weights import Randomised

STAGES: Mapping[str, float] = {"output": 0.0, "third": 1 / 3, "two_thirds": 2 / 3, "all": 1.0}
"""Shares of random layers, from the output on; with 0 only the last layer is random."""

FEWEST, DRAWS = 2, 6
"""Minimum and maximum of random networks for each stage; the three other views of an image take
turns."""

DIFFERENT, SAME = 0.8, 0.9
"""Mean rank correlations below which maps differ and from which they are the same: two thirds and
four fifths of the variance of the ranks. Above the gradient, below what fails."""

BEYOND_CHANCE = 0.5
"""Share of the distance from chance to identity that excludes chance."""

FIXED = 0.9
"""Rank correlation with another image's map from which a map does not depend on the image."""

Ranks = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Randomization(Check):
    """Model randomization: maps are compared with those of random networks."""

    def check(
        self, model: VisionModel, attributed: Sequence[Attributed], seed: int
    ) -> list[list[dict[str, Any]]]:
        """Return the verdict on every map, by image, and there by explainer, then target.

        Parameters
        ----------
        model
            The model. It is left unchanged; a copy gets random weights.
        attributed
            Explainers with their requests for the same images, and their attributions.
        seed
            Seed of the random weights.

        Returns
        -------
        list
            Lists of mappings: ``verdict`` (``"passes"``, ``"fails"`` or ``"unclear"``), ``reason``,
            ``correlation``, ``chance`` and ``draws`` by stage, ``seed``. If the check is impossible
            (for example, if the network can't be copied), the verdict is ``"unclear"``, with a
            reason.
        """
        inputs, untrained = attributed[0][1].inputs, model.details.get("weights") == "random"
        return [
            [
                trial.verdict(seed, untrained)
                for several in _try(model, attributed, i, seed)
                for trial in several
            ]
            for i in range(len(inputs))
        ]

    def unchecked(self, seed: int, reason: str) -> dict[str, Any]:
        """Return the evidence of a map that was not checked."""
        return Trial(np.zeros((1, 1)), failure=reason).verdict(seed)


@dataclass
class Trial:
    """Comparison of one map with those of random networks.

    Attributes
    ----------
    values
        (h, w), the map.
    class_specific
        Whether it depends on the target. If not, only a completely random network counts: such a
        map may not depend on the last layers by design.
    correlation, chance
        By stage, for each draw: Spearman's rank correlation of the map with that of the random
        network, and with that of the random network for another view of the image.
    failure
        Why the random network failed, or empty.
    """

    values: npt.NDArray[np.float64]
    class_specific: bool = True
    correlation: dict[str, list[float]] = field(default_factory=lambda: {s: [] for s in STAGES})
    chance: dict[str, list[float]] = field(default_factory=lambda: {s: [] for s in STAGES})
    failure: str = ""

    def open(self, stage: str) -> bool:
        """Whether another draw is needed: after two only if it can matter.

        A stage whose mean would stay below `DIFFERENT` even if all further draws gave the same map
        can't change the verdict.
        """
        found = self.correlation[stage]
        left = DRAWS - len(found)
        if self.failure or not left:
            return False
        if len(found) < FEWEST:
            return True
        decides = self.class_specific or stage == "all"
        return decides and sum(found) + left >= DIFFERENT * DRAWS

    def compare(self, stage: str, again: npt.NDArray[np.float64]) -> None:
        """Add the maps (2, h, w) of a random network, for the image and another view of it."""
        for values, kept in zip(again, (self.correlation, self.chance), strict=True):
            kept[stage].append(float(np.clip(self._ranks @ _ranked(values), -1, 1)))

    @cached_property
    def _ranks(self) -> Ranks:
        return _ranked(self.values)

    def verdict(self, seed: int, untrained: bool = False) -> dict[str, Any]:
        """Return the verdict for the evidence.

        For an untrained network, whose weights are random already, it only shows that the map
        depends on them.
        """
        word, reason = self._judge(_WEIGHTS if untrained else _LEARNED)
        if untrained and not self.failure:
            reason += " The network has learned nothing: only its random weights were exchanged."
        return {
            "verdict": word,
            "reason": reason,
            "correlation": _means(self.correlation),
            "chance": _means(self.chance),
            "draws": {stage: len(found) for stage, found in self.correlation.items()},
            "seed": seed,
        }

    def _judge(self, parts: Mapping[str, str]) -> tuple[str, str]:
        if self.failure:
            return "unclear", f"It could not be checked: {self.failure}"
        if np.ptp(self.values) == 0:
            return "unclear", "The map is constant."
        counted = STAGES if self.class_specific else ["all"]
        if not all(np.isfinite(self.correlation[stage]).all() for stage in counted):
            return "unclear", "The map of a random network is constant."
        stage = max(counted, key=lambda stage: fmean(self.correlation[stage]))
        mean, chance = fmean(self.correlation[stage]), fmean(self.chance[stage])
        part = parts[stage]
        detail = f"rank correlation {mean:.2f}, {chance:.2f} with another view of the image"
        if mean < DIFFERENT:
            return "passes", f"The map changes with {part} ({detail})."
        if mean < SAME:
            return "unclear", f"The map changes little with {part} ({detail})."
        if chance >= FIXED:
            return "fails", f"The map depends neither on the image nor on {part} ({detail})."
        if mean - chance >= BEYOND_CHANCE * (1 - chance):
            return "fails", f"The map hardly depends on {part} ({detail})."
        return "unclear", f"Most of the map is common to views and to networks ({detail})."


_WEIGHTS = {
    "output": "the weights of the output layer",
    "third": "the weights of the last third of the network",
    "two_thirds": "the weights of the last two thirds of the network",
    "all": "the network's weights",
}
_LEARNED = {
    "output": "what the output layer has learned",
    "third": "what the last third of the network has learned",
    "two_thirds": "what the last two thirds of the network have learned",
    "all": "what the network has learned",
}


def _ranked(values: npt.NDArray[Any]) -> Ranks:
    """Return centered ranks as a vector of length one, ties at their mean; nan without an order."""
    if not (np.isfinite(values).all() and np.ptp(values)):
        return np.full(values.size, np.nan)
    _, index, count = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    ranks: Ranks = (np.cumsum(count) - (count + 1) / 2 - (values.size - 1) / 2)[index]
    return ranks / np.linalg.norm(ranks)


def _means(by_stage: Mapping[str, list[float]]) -> dict[str, float]:
    return {
        stage: round(fmean(several), 4)
        for stage, several in by_stage.items()
        if several and np.isfinite(several).all()
    }


def _try(
    model: VisionModel, attributed: Sequence[Attributed], i: int, seed: int
) -> list[list[Trial]]:
    """Compute the maps of image `i` with random networks; by explainer, then target."""
    image = attributed[0][1].inputs[i]
    trials = [
        [
            Trial(_array(one.values[i]), explainer.class_specific)
            for one in attributions[: len(request.images[i].targets)]
        ]
        for explainer, request, attributions in attributed
    ]
    views = [image.flip(dims) for dims in ([-1], [-2], [-2, -1])]
    # Both signs, so that layers that only see means get varying inputs.
    try:
        most = images_at_once(model, image, attributed[0][1].budget)
        randomised = Randomised(model, torch.stack([image, -views[2]]), keep=most >= 4)
    except CvxError as error:
        return _failed(trials, error)
    # A seed for each draw and stage makes them independent of skipped ones.
    seeds = torch.randint(2**62, (DRAWS, len(STAGES)), generator=_generator(seed)).tolist()
    for draw, (stage, share) in product(range(DRAWS), STAGES.items()):
        asked = [
            (one, several)
            for one, several in zip(attributed, trials, strict=True)
            if any(trial.open(stage) for trial in several)
        ]
        if not asked:
            continue
        pair = torch.stack([image, views[draw % len(views)]])
        try:
            own = seeds[draw][list(STAGES).index(stage)]
            random = randomised.randomise(share, _generator(own))
        except CvxError as error:
            return _failed(trials, error)
        for (explainer, request, _), several in asked:
            try:
                again = _again(explainer, request, random, pair, i, most)
            except CvxError as error:
                for trial in several:
                    trial.failure = str(error)
                continue
            for trial, values in zip(several, again, strict=True):
                if trial.open(stage):
                    trial.compare(stage, values)
    return trials


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _failed(trials: list[list[Trial]], error: CvxError) -> list[list[Trial]]:
    """Record why a network could not be checked; its maps are kept."""
    for trial in (trial for several in trials for trial in several):
        trial.failure = str(error)
    return trials


def _again(
    explainer: Explainer,
    request: ExplainRequest,
    random: VisionModel,
    pair: torch.Tensor,
    i: int,
    most: int,
) -> list[npt.NDArray[np.float64]]:
    """Return the maps (2, h, w) of a random network, for each seed of the request."""

    def run(start: int, stop: int) -> list[npt.NDArray[np.float64]]:
        with request.put_to(random, pair[start:stop], i, explainer.recordings()) as asked:
            return [_array(one.values) for one in explainer.attribute(asked)]

    pieces = list(in_pieces(len(pair), most, run))
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def _array(values: torch.Tensor) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = values.detach().double().cpu().numpy()
    return array
