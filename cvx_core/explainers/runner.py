"""Runner of explainers: prepares images, records once, attributes, assembles explanations."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cvx_core.errors import CvxWarning, MethodError, UsageError
from cvx_core.explainers.batching import images_at_once, in_pieces
from cvx_core.explainers.check import Attributed, Check, worst
from cvx_core.explainers.guard import ModelGuard
from cvx_core.explainers.method import Attribution, Method, fetch, tensors_in
from cvx_core.explainers.pyramid import at_all_levels
from cvx_core.explainers.request import ExplainRequest, ImageTargets, SharedRecordings
from cvx_core.explanations.explanation import Explanation
from cvx_core.explanations.metadata import Metadata
from cvx_core.explanations.results import Explanations
from cvx_core.models.repeatability import differs_between_runs
from cvx_core.models.sources import wrap
from cvx_core.models.vision_model import PreparedImage, VisionModel
from cvx_core.recording.interception.autograd import installed_explainers
from cvx_core.tasks.catalogue import labels_per_image, targets_per_image
from cvx_core.tasks.classes import TargetRecord
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.targets import Target

Targets = Any
"""One target for all images, or one or several for each; see `Explainer.explain`."""

Made = Callable[[int, int, int, Explanation], object]
"""Called with the numbers of image, explainer and target, and the explanation."""

Labels = Any
"""One label for all images, or one for each; see `Explainer.explain`."""


def run(
    model: VisionModel | nn.Module,
    images: Any,
    explainers: Sequence[Method],
    target: Targets = None,
    label: Labels = None,
    seed: int = 0,
    *,
    budget: int | None = None,
    checks: Sequence[Check] = (),
    made: Made | None = None,
) -> Explanations:
    """Return explanations by image, then explainer, then target; see `Explainer.explain`.

    Each is passed to `made` as soon as it exists, before it is checked, so that it is not lost if
    the rest is interrupted.

    All explainers and targets share the forward passes: one for those that use the model's own
    gradients and one for those that freeze its gates.
    """
    model = wrap(model)
    explainers = [one.with_layer_names(model.module) for one in explainers]
    prepared = model.prepare(images)
    if not prepared:
        raise UsageError("There are no images to explain.", "Pass one or more.")
    names = [(one.source.path, one.source.name) for one in prepared]
    labels = labels_per_image(model.task, label, names, model.classes)
    targets = [
        targets_per_image(target, len(prepared), e.default_target, names) for e in explainers
    ]
    jobs = [
        _Job(i, image, labels[i], [several[i] for several in targets])
        for i, image in enumerate(prepared)
    ]
    guard = ModelGuard(model)
    runner = _Runner(model, explainers, seed, budget, checks, made, guard)
    found: list[list[Explanation]] = []
    with guard.running():
        for _, group in groupby(jobs, key=lambda job: tuple(job.image.tensor.shape)):
            found += runner.run_group(list(group))
    return Explanations(explanation for several in found for explanation in several)


@dataclass(frozen=True, eq=False)
class _Job:
    """One image with its label and, for each explainer, its targets."""

    number: int
    image: PreparedImage
    label: GroundTruth | None
    targets: list[list[Target]]


@dataclass(frozen=True, eq=False)
class _Runner:
    """What is the same for all images of a run."""

    model: VisionModel
    explainers: Sequence[Method]
    seed: int
    budget: int | None
    checks: Sequence[Check]
    made: Made | None
    guard: ModelGuard

    def run_group(self, jobs: list[_Job]) -> list[list[Explanation]]:
        """Run images of one shape, as many at once as the byte budget allows."""
        size = 1
        if len(jobs) > 1:
            size = images_at_once(self.model, jobs[0].image.tensor, self.budget)

        def run_some(start: int, stop: int) -> list[list[Explanation]]:
            return self._run_batch(jobs[start:stop])

        return [one for several in in_pieces(len(jobs), size, run_some) for one in several]

    def _run_batch(self, jobs: list[_Job]) -> list[list[Explanation]]:
        inputs = torch.stack([job.image.tensor for job in jobs])
        recordings = SharedRecordings(self.model, inputs, [])
        by_image: list[dict[tuple[int, int], Explanation]] = [{} for _ in jobs]
        attributed: list[Attributed] = []
        try:
            asked = [
                one
                for number in range(len(self.explainers))
                for one in self._asked(number, jobs, recordings)
            ]
            recordings.wanted = [need for one in asked for need in one.explainer.recordings()]
            for one in asked:
                # Each explainer anew: a network may change its own buffers.
                with self.model.fixed_weights():
                    attributed.append(self._run_explainer(one, jobs, recordings, by_image))
        finally:
            recordings.close()
        if self.checks:
            found = [check.check(self.model, attributed, self.seed) for check in self.checks]
            for i, several in enumerate(by_image):
                for k, (key, made) in enumerate(several.items()):
                    sanity = worst([v[i][k] for v in found])
                    several[key] = made.replace(evidence={**made.evidence, "sanity": sanity})
        return [[several[key] for key in sorted(several)] for several in by_image]

    def _asked(self, number: int, jobs: list[_Job], recordings: SharedRecordings) -> list[_Asked]:
        """Return an explainer with its targets, once for each set of outputs that they ask about.

        A detector computes scores and boxes on other levels.
        """
        explainer, inputs = self.explainers[number], recordings.inputs
        targets = [dict(enumerate(job.targets[number])) for job in jobs]
        if self.model.task.output_parts < 2 or not explainer.class_specific:
            return [_Asked(number, at_all_levels(explainer, self.model, inputs), targets)]
        parts = ExplainRequest(recordings, _images(jobs, targets)).parts()
        # A target about nothing, such as an error that isn't there, has no level of its own.
        kinds = {
            kind: at_all_levels(explainer, self.model, inputs, kind or None)
            for kind in dict.fromkeys(one for several in parts for one in several)
        }
        if all(one is explainer for one in kinds.values()):
            return [_Asked(number, explainer, targets)]
        return [
            _Asked(
                number,
                made,
                [
                    {k: target for k, target in several.items() if parts[i][k] == kind}
                    for i, several in enumerate(targets)
                ],
            )
            for kind, made in kinds.items()
        ]

    def _run_explainer(
        self,
        asked: _Asked,
        jobs: list[_Job],
        recordings: SharedRecordings,
        by_image: list[dict[tuple[int, int], Explanation]],
    ) -> Attributed:
        """Add an explainer's explanations to those of each image."""
        note = differs_between_runs(self.model, recordings.inputs)
        if note:
            warnings.warn(f"{note}: its maps are of one of them.", CvxWarning, stacklevel=4)
        number, explainer = asked.number, asked.explainer
        digest = self.model.digest()  # before a network changes its own buffers
        started, before = time.perf_counter(), recordings.counts()
        images = _images(jobs, asked.targets)
        request = ExplainRequest(recordings, images, self.seed, self.budget)
        with self.guard.watching(explainer.name, recordings):
            attributions = explainer.attribute(request)
        recordings.check_untouched(explainer.name)
        recording = request.recording(explainer.recordings()[0])
        records = request.records(recording.logits)
        if not explainer.class_specific:
            records = [[_for_any_class(record) for record in several] for several in records]
        _check(explainer, attributions, len(jobs), max(map(len, records)))
        after = recordings.counts()
        known = {"class_specific": explainer.class_specific}
        shared = {
            "seconds": round((time.perf_counter() - started) / sum(map(len, records)), 6),
            "batch": len(jobs),
            **{kind: after[kind] - before[kind] for kind in ("forwards", "backwards")},
            "bytes": request.bytes_held,
        }
        title = {"method": explainer.name, "parameters": explainer.parameters()}
        facts = self._of_model(jobs[0].image, digest)
        made = fetch(attributions, (known, shared), (title, facts))
        notes = [_notes_on_flat(explainer, one.values) for one in made]
        units = [one.unit or explainer.unit for one in attributions]
        for i, job in enumerate(jobs):
            of_image = job.image.provenance
            for place, (k, record) in enumerate(zip(asked.targets[i], records[i], strict=True)):
                one = made[place]
                if not one.finite[i]:
                    raise _not_finite(explainer, self.model)
                evidence, said = one.evidence[i], notes[place][i]
                # A zero seed has a map of zeros, and its record says why.
                if said and (not explainer.class_specific or request.is_seeded(i, place)):
                    evidence = Metadata(warning=said) | evidence
                explanation = Explanation(
                    values=one.values[i],
                    extent=job.image.extent,
                    image=job.image.source.pixels,
                    target=record,
                    method=explainer.name,
                    signed=explainer.signed,
                    unit=self._unit(units[place], record),
                    name=job.image.source.name,
                    evidence=evidence,
                    provenance=one.provenance[i] | of_image,
                )
                by_image[i][number, k] = explanation
                if self.made is not None:
                    self.made(job.number, number, k, explanation)
        return explainer, request, attributions

    def _unit(self, unit: str, record: TargetRecord) -> str:
        """Return the unit of a map, in the unit of the target or of the task's own outputs."""
        own = record.unit or self.model.task.unit or "value"
        if unit == "probability" and own != Method.unit:  # what is watched are the values
            return own
        return re.sub(rf"\b{Method.unit}\b", lambda _: own, unit)

    def _of_model(self, image: PreparedImage, digest: str) -> dict[str, Any]:
        """Return the provenance of the model, with a note if it answers differently twice."""
        found = self.model.provenance(image)
        notes = found["output_note"], differs_between_runs(self.model, image.tensor[None])
        said = " ".join(f"{n.rstrip('.')}." for n in notes if n)
        return {**found, "output_note": said, "weights_sha256": digest, "seed": self.seed}


@dataclass(frozen=True, eq=False)
class _Asked:
    """An explainer with the targets that it explains, by their number, for each image."""

    number: int
    explainer: Method
    targets: list[dict[int, Target]]


def _images(jobs: list[_Job], targets: list[dict[int, Target]]) -> list[ImageTargets]:
    return [
        ImageTargets(list(several.values()), job.label, job.image.frame)
        for job, several in zip(jobs, targets, strict=True)
    ]


def _notes_on_flat(explainer: Method, values: npt.NDArray[np.float32]) -> list[str]:
    """Return what is wrong with maps (B, h, w) that tell no positions apart, or empty text."""
    flat = values.reshape(len(values), -1)
    lowest, highest = flat.min(1), flat.max(1)
    largest = np.maximum(np.abs(lowest), np.abs(highest))
    with np.errstate(invalid="ignore"):  # what is not finite is refused elsewhere
        # Rounding of single precision; a map of one position has nothing to tell apart.
        same = (highest - lowest <= 1e-6 * largest) & (flat.shape[1] > 1)
    constant = "The map has the same value everywhere: it tells no positions apart."
    zero = "" if largest.all() else _note_on_zero(explainer)
    return [
        zero if not size else constant if is_same else ""
        for size, is_same in zip(largest.tolist(), same.tolist(), strict=True)
    ]


def _note_on_zero(explainer: Method) -> str:
    """Return why a map may be zero everywhere, and what else to use."""
    if explainer.class_specific and not explainer.signed:
        return (
            "The map is zero everywhere: it shows only what supports the target, and nothing does. "
            "A method with signed maps shows what opposes it."
        )
    found = "The map is zero everywhere: nothing of the target passes these positions"
    able = [] if _is_native(explainer) else list(installed_explainers(_shows_slopes))
    if able:
        found += (
            " by the rules of this method, in which sigmoid and softmax are constants. Methods "
            f"that follow the network's own gradient may show more: {', '.join(able[:3])}"
        )
    return f"{found}."


def _is_native(explainer: Method) -> bool:
    return all(one.gates == "native" for one in explainer.recordings())


def _shows_slopes(explainer: Method) -> bool:
    maps = explainer.needs_gradient and explainer.class_specific and explainer.signed
    return maps and explainer.unit.startswith("logits") and _is_native(explainer)


def _for_any_class(record: TargetRecord) -> TargetRecord:
    return replace(
        record,
        text="where does the model look?",
        note="This map does not depend on the target.",
        box=None,
        asked="",
        unit="",
    )


def _check(explainer: Method, attributions: list[Attribution], images: int, rounds: int) -> None:
    if len(attributions) != rounds:
        raise MethodError(
            f"{explainer.name} returned {len(attributions)} attributions for {rounds} seeds.",
            "attribute() returns one Attribution for each of request.seeds(logits).",
        )
    for one in attributions:
        if one.values.ndim != 3 or one.values.shape[0] != images:
            raise MethodError(
                f"{explainer.name} returned maps of shape {tuple(one.values.shape)} for {images} "
                "images.",
                "Attribution.values has the shape (B, h, w).",
            )
        for key, value in {**one.evidence, **one.provenance}.items():
            for tensor in tensors_in(value):
                if tuple(tensor.shape) != (images,):
                    raise MethodError(
                        f"{explainer.name} gave {key!r} as a tensor of shape "
                        f"{tuple(tensor.shape)} for {images} images.",
                        "A tensor in evidence or provenance holds one value for each image, (B,); "
                        "anything else is given as numbers, text or lists.",
                    )


def _not_finite(explainer: Method, model: VisionModel) -> MethodError:
    message = f"The map of {explainer.name} for {model.name} holds values that are not finite"
    if model.dtype in (torch.float16, torch.bfloat16):
        return MethodError(
            f"{message}: it overflows in {str(model.dtype).removeprefix('torch.')}.",
            "Use --dtype float32 (model.to(dtype=torch.float32)).",
        )
    return MethodError(
        f"{message}.",
        "Look for nan, inf or very large numbers in the model's weights and in the input.",
    )
