"""Attempts to explain images, each failure kept to its image, explainer and target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from time import perf_counter

import torch

from cvx_core.cli.explain.plan import MapPlan, MapRequest, NamedExplainer
from cvx_core.errors import CvxError, LayerError, ModelError, PluginError, TargetError, UsageError
from cvx_core.explainers.check import installed_checks, worst
from cvx_core.explainers.runner import run
from cvx_core.explanations.explanation import Explanation
from cvx_core.images.image_files import SourceImage
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.isolation import REPORT, describe_error

Job = tuple[MapPlan, SourceImage]


@dataclass
class Attempt:
    """Explanations of one image, and what failed.

    Attributes
    ----------
    maps
        The explanations, in the order of the plan.
    failures
        The explainers that gave none, and why.
    seconds
        Wall-clock time, shared evenly between images explained together.
    """

    maps: list[tuple[MapRequest, Explanation]] = field(default_factory=list)
    failures: list[tuple[NamedExplainer, CvxError]] = field(default_factory=list)
    seconds: float = 0.0


class AttemptRunner:
    """Runs explainers on images, each failure kept to its image and explainer.

    Parameters
    ----------
    model
        The model.
    explainers
        All explainers of the run.
    seed
        Random seed.
    sanity
        Whether to check the maps; see `cvx_score.checks.randomization`.
    """

    def __init__(
        self,
        model: VisionModel,
        explainers: Sequence[NamedExplainer],
        seed: int,
        *,
        sanity: bool = False,
    ) -> None:
        self._model, self._seed = model, seed
        self._checks = installed_checks() if sanity else []
        self._count = len(explainers)
        self._worked: set[NamedExplainer] = set()
        self._retired: dict[NamedExplainer, CvxError] = {}
        self._made: dict[tuple[int, NamedExplainer, int], Explanation] = {}

    @property
    def exhausted(self) -> bool:
        """Whether every explainer failed in a way that every image would repeat.

        An explainer that doesn't support this model, or is given a layer that it doesn't have,
        fails in the same way on every image; after the first it is not run again.
        """
        return len(self._retired) == self._count

    def attempt(self, jobs: Sequence[Job]) -> list[Attempt]:
        """Return one attempt for each job, in order."""
        attempts: list[Attempt] = []
        self._made.clear()
        for _, group in groupby(jobs, key=lambda job: (job[0].explainers, bool(job[0].targets))):
            started, same = perf_counter(), list(group)
            able = [one for one in same[0][0].explainers if one not in self._retired]
            found = self._attempt(same, able) if able else [Attempt() for _ in same]
            for (plan, _), attempt in zip(same, found, strict=True):
                attempt.seconds = (perf_counter() - started) / len(same)
                known = {one for one, _ in attempt.failures}
                attempt.failures += [
                    (one, self._retired[one])
                    for one in plan.explainers
                    if one in self._retired and one not in known
                ]
            attempts += found
        return attempts

    def unfinished(self, jobs: Sequence[Job]) -> list[Attempt]:
        """Return what was made for each job before an interruption."""
        attempts = []
        for plan, _ in jobs:
            keys = [(one, (id(plan), one.explainer, one.index)) for one in plan.maps]
            found = [(one, self._made[key]) for one, key in keys if key in self._made]
            attempts.append(Attempt([(one, self._as_it_is(made)) for one, made in found]))
        return attempts

    def _as_it_is(self, made: Explanation) -> Explanation:
        if not self._checks:
            return made
        reason = "the run was interrupted."
        verdict = worst([check.unchecked(self._seed, reason) for check in self._checks])
        return made.replace(evidence={**made.evidence, "sanity": verdict})

    def _attempt(self, jobs: Sequence[Job], able: Sequence[NamedExplainer]) -> list[Attempt]:
        """Run all at once; where that fails, by image, then explainer, then target."""
        try:
            return self._run(jobs, able)
        except KeyboardInterrupt:
            raise
        # The per-image boundary: one image or one explainer must not take the others with it,
        # and the model and the explainers are foreign code that may raise anything, and exit.
        except BaseException as error:
            if len(jobs) > 1:
                return [self._attempt([job], able)[0] for job in jobs]
            if len(able) > 1:
                return [_joined([self._attempt(jobs, [one])[0] for one in able])]
            [(plan, image)] = jobs
            if isinstance(error, TargetError) and len(plan.targets) > 1:
                each = [(plan.alone(index), image) for index in range(len(plan.targets))]
                return [_joined([self._attempt([one], able)[0] for one in each])]
            return [Attempt(failures=[(able[0], self._failed(able[0], jobs[0][1], error))])]

    def _run(self, jobs: Sequence[Job], able: Sequence[NamedExplainer]) -> list[Attempt]:
        plans = [plan for plan, _ in jobs]

        def made(image: int, explainer: int, index: int, explanation: Explanation) -> None:
            named = explanation.replace(method=able[explainer].title)
            self._made[id(plans[image]), able[explainer], index] = named

        found = iter(
            run(
                self._model,
                [image for _, image in jobs],
                [one.explainer for one in able],
                [list(plan.targets) for plan in plans] if plans[0].targets else None,
                [plan.truth for plan in plans],
                self._seed,
                checks=self._checks,
                made=made,
            )
        )
        attempts = []
        for plan in plans:
            wanted = {(one.explainer, one.index): one for one in plan.maps}
            attempt = Attempt()
            for explainer in able:
                for index in range(len(plan.targets) or 1):
                    explanation = next(found)
                    if (explainer, index) in wanted:
                        named = explanation.replace(method=explainer.title)
                        attempt.maps.append((wanted[explainer, index], named))
            attempts.append(attempt)
        self._worked.update(able)
        return attempts

    def _failed(
        self, explainer: NamedExplainer, image: SourceImage, error: BaseException
    ) -> CvxError:
        failure = self._error_of(explainer, image, error)
        # A target may not exist in this image alone: there is no such box in it.
        lasting = isinstance(failure, UsageError | LayerError)
        if lasting and not isinstance(failure, TargetError) and explainer not in self._worked:
            self._retired[explainer] = failure
        return failure

    def _error_of(
        self, explainer: NamedExplainer, image: SourceImage, error: BaseException
    ) -> CvxError:
        """Return an exception as an error of the model, the explainer or the memory."""
        if isinstance(error, CvxError):
            return error
        failure: CvxError
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            failure = ModelError(
                f"Out of memory ({describe_error(error)}).",
                "Use a smaller image, --dtype bfloat16 or another --device.",
            )
        elif self._runs(image):
            failure = PluginError(
                f"The explainer {explainer.text} failed: {describe_error(error)}", REPORT
            )
        else:
            failure = ModelError(f"The model failed: {describe_error(error)}")
        failure.__cause__ = error
        return failure

    def _runs(self, image: SourceImage) -> bool:
        try:
            [prepared] = self._model.prepare([image])
            self._model.logits(prepared.tensor[None])
        except KeyboardInterrupt:
            raise
        # The boundary to the user's model, run once more to find out which of the two failed.
        except BaseException:
            return False
        return True


def _joined(parts: Sequence[Attempt]) -> Attempt:
    """Return the attempts at parts of one image as one."""
    return Attempt(
        [one for part in parts for one in part.maps],
        [one for part in parts for one in part.failures],
    )
