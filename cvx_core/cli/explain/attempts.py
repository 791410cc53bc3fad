"""Put the questions to the model so that one failure costs no more than it must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from time import perf_counter

import torch

from cvx_core.cli.explain.plan import MapPlan, MapRequest, NamedExplainer
from cvx_core.errors import (
    CvxError,
    LayerError,
    ModelError,
    PluginError,
    TargetError,
    UsageError,
)
from cvx_core.explainers.check import installed_checks, worst
from cvx_core.explainers.runner import run
from cvx_core.explanations.explanation import Explanation
from cvx_core.images.image_files import SourceImage
from cvx_core.models.vision_model import VisionModel
from cvx_core.plugins.isolation import REPORT, describe_error

Job = tuple[MapPlan, SourceImage]


@dataclass
class Attempt:
    """What came of the questions about one image.

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
    asked
        All explainers of the run.
    seed
        Of all randomness.
    sanity
        Whether to check the maps; see `cvx_score.checks.randomization`.
    """

    def __init__(
        self,
        model: VisionModel,
        asked: Sequence[NamedExplainer],
        seed: int,
        *,
        sanity: bool = False,
    ) -> None:
        self._model, self._seed = model, seed
        self._checks = installed_checks() if sanity else []
        self._count = len(asked)
        self._worked: set[NamedExplainer] = set()
        self._retired: dict[NamedExplainer, CvxError] = {}
        self._made: dict[tuple[int, NamedExplainer, int], Explanation] = {}

    @property
    def exhausted(self) -> bool:
        """Whether no explainer is left that could answer.

        An explainer that has no answer for this model, or is asked for a layer that isn't there,
        fails in the same way on every image; after the first it is not run again.
        """
        return len(self._retired) == self._count

    def answer(self, jobs: Sequence[Job]) -> list[Attempt]:
        """Return one answer for each job, in order."""
        answers: list[Attempt] = []
        self._made.clear()
        for _, group in groupby(jobs, key=lambda job: (job[0].asked, bool(job[0].targets))):
            started, same = perf_counter(), list(group)
            able = [one for one in same[0][0].asked if one not in self._retired]
            found = self._attempt(same, able) if able else [Attempt() for _ in same]
            for (plan, _), answer in zip(same, found, strict=True):
                answer.seconds = (perf_counter() - started) / len(same)
                known = {one for one, _ in answer.failures}
                answer.failures += [
                    (one, self._retired[one])
                    for one in plan.asked
                    if one in self._retired and one not in known
                ]
            answers += found
        return answers

    def unfinished(self, jobs: Sequence[Job]) -> list[Attempt]:
        """Return what there is of the answer to each job after an interruption."""
        answers = []
        for plan, _ in jobs:
            keys = [(one, (id(plan), one.asked, one.turn)) for one in plan.wanted]
            found = [(one, self._made[key]) for one, key in keys if key in self._made]
            answers.append(Attempt([(one, self._as_it_is(made)) for one, made in found]))
        return answers

    def _as_it_is(self, made: Explanation) -> Explanation:
        if not self._checks:
            return made
        reason = "the run was interrupted."
        verdict = worst([check.unchecked(self._seed, reason) for check in self._checks])
        return made.replace(evidence={**made.evidence, "sanity": verdict})

    def _attempt(self, jobs: Sequence[Job], able: Sequence[NamedExplainer]) -> list[Attempt]:
        """Run all at once; where that fails, by image, then explainer, then question."""
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
            [(plan, picture)] = jobs
            if isinstance(error, TargetError) and len(plan.targets) > 1:
                each = [(plan.alone(turn), picture) for turn in range(len(plan.targets))]
                return [_joined([self._attempt([one], able)[0] for one in each])]
            return [Attempt(failures=[(able[0], self._failed(able[0], jobs[0][1], error))])]

    def _run(self, jobs: Sequence[Job], able: Sequence[NamedExplainer]) -> list[Attempt]:
        plans = [plan for plan, _ in jobs]

        def made(image: int, explainer: int, turn: int, explanation: Explanation) -> None:
            named = explanation.replace(method=able[explainer].title)
            self._made[id(plans[image]), able[explainer], turn] = named

        found = iter(
            run(
                self._model,
                [picture for _, picture in jobs],
                [one.explainer for one in able],
                [list(plan.targets) for plan in plans] if plans[0].targets else None,
                [plan.truth for plan in plans],
                self._seed,
                checks=self._checks,
                made=made,
            )
        )
        answers = []
        for plan in plans:
            wanted = {(one.asked, one.turn): one for one in plan.wanted}
            answer = Attempt()
            for asked in able:
                for turn in range(len(plan.targets) or 1):
                    explanation = next(found)
                    if (asked, turn) in wanted:
                        named = explanation.replace(method=asked.title)
                        answer.maps.append((wanted[asked, turn], named))
            answers.append(answer)
        self._worked.update(able)
        return answers

    def _failed(
        self, asked: NamedExplainer, picture: SourceImage, error: BaseException
    ) -> CvxError:
        failure = self._told(asked, picture, error)
        # A question may have no answer for this image alone: there is no such box in it.
        lasting = isinstance(failure, UsageError | LayerError)
        if lasting and not isinstance(failure, TargetError) and asked not in self._worked:
            self._retired[asked] = failure
        return failure

    def _told(self, asked: NamedExplainer, picture: SourceImage, error: BaseException) -> CvxError:
        """Put an exception in our words: whose fault it is, and the way out."""
        if isinstance(error, CvxError):
            return error
        failure: CvxError
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            failure = ModelError(
                f"The memory does not suffice ({describe_error(error)}).",
                "Use a smaller image, --dtype bfloat16 or another --device.",
            )
        elif self._runs(picture):
            failure = PluginError(
                f"The explainer {asked.text} failed: {describe_error(error)}", REPORT
            )
        else:
            failure = ModelError(f"The model failed: {describe_error(error)}")
        failure.__cause__ = error
        return failure

    def _runs(self, picture: SourceImage) -> bool:
        try:
            [prepared] = self._model.prepare([picture])
            self._model.logits(prepared.tensor[None])
        except KeyboardInterrupt:
            raise
        # The boundary to the user's model, asked once more to find out whose fault it was.
        except BaseException:
            return False
        return True


def _joined(parts: Sequence[Attempt]) -> Attempt:
    """Return the answer to several parts of what was asked about one image."""
    return Attempt(
        [one for part in parts for one in part.maps],
        [one for part in parts for one in part.failures],
    )
