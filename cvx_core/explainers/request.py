"""Requests to explainers: a batch, its targets, and recordings that are shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch

from cvx_core.errors import PluginError
from cvx_core.explainers.batching import images_at_once, in_pieces, kept_memory
from cvx_core.images.regions import Extent, Frame
from cvx_core.models.forward import version
from cvx_core.models.repeatability import check_repeatable
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Layer, Layout, Recording, Requirements
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.tasks.classes import TargetRecord
from cvx_core.tasks.ground_truth import GroundTruth
from cvx_core.tasks.outputs import ModelOutput
from cvx_core.tasks.prediction import Prediction, Seed
from cvx_core.tasks.targets import Target

_MOST_ROWS = 256


@dataclass(frozen=True, eq=False)
class ImageTargets:
    """The targets of one image, with what resolves them.

    Attributes
    ----------
    targets
        One or more.
    label
        Ground truth, if it is known.
    frame
        How the network's input lies over the image.
    """

    targets: Sequence[Target]
    label: GroundTruth | None
    frame: Frame


class ExplainRequest:
    """A batch of prepared images with the targets of each.

    Parameters
    ----------
    recordings
        Of the batch; shared with other requests.
    images
        Targets, label and frame of each image.
    seed
        Of all randomness.
    budget
        Bytes that the activations of images run together may take; None for a default.

    Attributes
    ----------
    model
        The `VisionModel`.
    inputs
        (B, C, H, W), as the network takes it.
    """

    def __init__(
        self,
        recordings: SharedRecordings,
        images: Sequence[ImageTargets],
        seed: int = 0,
        budget: int | None = None,
    ) -> None:
        self.model = recordings.model
        self.inputs = recordings.inputs
        self.images = list(images)
        self.seed = seed
        self.budget = budget
        self._recordings = recordings
        self._resolved: list[list[tuple[Seed, TargetRecord]]] | None = None
        self._parent: ExplainRequest | None = None
        self._used: dict[Recording, None] = {}
        self._most_elsewhere = 0
        self._scope = ExitStack()

    @property
    def extents(self) -> list[Extent]:
        """For each image, the rectangle of it that its input covers."""
        return [one.frame.extent for one in self.images]

    @property
    def layout(self) -> Layout:
        """The layers of the network that can be recorded."""
        return Layout.of(self.model, self.inputs)

    def recording(self, requirements: Requirements) -> Recording:
        """Return the recording that fulfills the requirements; opened once, shared by all."""
        recording = self._recordings.recording(requirements)
        self._used[recording] = None
        return recording

    def seeds(self, logits: torch.Tensor) -> list[torch.Tensor]:
        """Return seeds (B, N) over all outputs, one tensor for each target in turn.

        An image with fewer targets than others has a zero seed in the later ones; its rows are
        not used.
        """
        resolved = self._resolve(logits)
        rounds = max(map(len, resolved))
        zero = np.zeros(logits.shape[1])
        seeds = np.array(
            [
                [several[k][0] if k < len(several) else zero for several in resolved]
                for k in range(rounds)
            ]
        )
        return list(torch.from_numpy(seeds).to(logits.device, logits.dtype))

    def is_seeded(self, image: int, number: int) -> bool:
        """Whether the seed of an image's target is not zero, once the targets are resolved."""
        return self._resolved is not None and bool(self._resolved[image][number][0].any())

    def records(self, logits: torch.Tensor) -> list[list[TargetRecord]]:
        """Return the description of each image's targets."""
        return [[record for _, record in several] for several in self._resolve(logits)]

    def parts(self) -> list[list[frozenset[int]]]:
        """Return which parts of the output each image's targets ask about.

        By the numbers of `ModelOutput.parts`. Resolved by a forward pass if none was recorded.
        """
        output = self._recordings.output()
        ends = np.cumsum([part[0].numel() for part in output.parts])[:-1]
        return [
            [
                frozenset(k for k, one in enumerate(np.split(seed, ends)) if one.any())
                for seed, _ in several
            ]
            for several in self._resolve(output.flat)
        ]

    def generator(self) -> torch.Generator:
        """Return a fresh CPU generator. Draw for one image and use it for all of them, so that
        a map does not depend on what else is in the batch."""
        return torch.Generator().manual_seed(self.seed)

    @property
    def at_once(self) -> int:
        """How many images to run together when a method runs many; 1 or more."""
        most = images_at_once(self.model, self.inputs[0], self.budget)
        # A processor's caches are full long before its memory is: more at once is slower there.
        return most if self.inputs.device.type == "cuda" else min(most, 16)

    def at_once_behind(self, layer: Layer) -> int:
        """How many values at a layer to run the network behind it for together; 1 to 256.

        That part is smaller than the whole, so that it may be more than `at_once`.
        """
        sizes = {p.name: prod(p.shape) for p in self.layout.layers}
        names = list(sizes)
        if layer.name not in sizes:
            return min(_MOST_ROWS, self.at_once)
        behind = sum(sizes[name] for name in names[names.index(layer.name) :])
        return min(_MOST_ROWS, self.at_once * max(1, sum(sizes.values()) // max(1, behind)))

    @property
    def bytes_held(self) -> int:
        """The most bytes that recordings of this request kept at once; see `kept_memory`.

        Of requests with changed inputs, which follow one another, the largest counts.
        """
        memory = {address: size for one in self._used for address, size in kept_memory(one).items()}
        return sum(memory.values()) + self._most_elsewhere

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, C) of other inputs (n, C, H, W), without graph.

        Counted as forward passes. Where memory runs out the inputs are run in halves.
        """
        return self._recordings.logits(inputs)

    def probabilities(self, inputs: torch.Tensor | None = None) -> torch.Tensor:
        """Return the outputs as the task means them, (n, N), without graph; see `Task.link`.

        Probabilities of classes, scores of candidates, values as they are; in the order of the
        logits. Without inputs those of the request, from a recording if there is one.
        """
        return self._recordings.probabilities(inputs)

    def with_inputs(self, inputs: torch.Tensor) -> ExplainRequest:
        """Return the same request for changed inputs, with the seeds of the originals.

        Its recordings are its own; close them with ``with request.with_inputs(x) as other``.
        """
        check_repeatable(self.model, self.inputs)
        recordings = SharedRecordings(self.model, inputs, [], self._recordings)
        other = ExplainRequest(recordings, self.images, self.seed, self.budget)
        other._resolved, other._parent = self._resolved, self
        return other

    def put_to(
        self,
        model: VisionModel,
        inputs: torch.Tensor,
        image: int,
        requirements: Sequence[Requirements],
    ) -> ExplainRequest:
        """Return the request for one image, put to another network with other inputs.

        Its seeds are those of the image, whatever the other network predicts. Close its recordings
        with ``with request.put_to(...) as other``; they are not counted here.

        Parameters
        ----------
        model
            The other network.
        inputs
            (n, C, H, W).
        image
            Position of the image in the batch.
        requirements
            What will be recorded.
        """
        count = len(inputs)
        recordings = SharedRecordings(model, inputs, requirements)
        other = ExplainRequest(recordings, [self.images[image]] * count, self.seed, self.budget)
        if self._resolved is not None:
            other._resolved = [self._resolved[image]] * count
        return other

    def __enter__(self) -> ExplainRequest:
        self._scope.enter_context(self.model.fixed_weights())
        return self

    def __exit__(self, *exception: object) -> None:
        with self._scope:
            if self._parent is not None:
                self._parent._most_elsewhere = max(self._parent._most_elsewhere, self.bytes_held)
            self._used.clear()
            self._recordings.close()

    def _resolve(self, logits: torch.Tensor) -> list[list[tuple[Seed, TargetRecord]]]:
        if self._resolved is None:
            predictions = self._recordings.predictions(logits, [one.frame for one in self.images])
            self._resolved = [
                [_resolve(target, prediction, one.label) for target in one.targets]
                for one, prediction in zip(self.images, predictions, strict=True)
            ]
        return self._resolved


def _resolve(
    target: Target, prediction: Prediction, label: GroundTruth | None
) -> tuple[Seed, TargetRecord]:
    seed, record = prediction.resolve(target, label)
    if target.asked:
        record = replace(record, asked=target.asked)
    return np.asarray(seed, dtype=np.float64), record


def _versions(recording: Recording) -> dict[str, int]:
    """Return numbers that change when a recorded tensor is changed in place."""
    return {name: version(node) for name, node in recording.nodes.items()}


class SharedRecordings:
    """Recordings of one batch, opened on first use and shared by explainers and targets.

    Passes are counted; those of changed inputs count for the recordings of the originals, `parent`.
    """

    def __init__(
        self,
        model: VisionModel,
        inputs: torch.Tensor,
        wanted: Sequence[Requirements],
        parent: SharedRecordings | None = None,
    ) -> None:
        self.model, self.inputs, self.wanted, self.parent = model, inputs, list(wanted), parent
        self._open: dict[Requirements, Recording] = {}
        self._versions: dict[Recording, dict[str, int]] = {}
        self._stack = ExitStack()
        self._elsewhere = Counter[str]()
        self._predictions: list[Prediction] | None = None
        self._output: ModelOutput | None = None
        self._version = version(inputs)

    def recording(self, requirements: Requirements) -> Recording:
        """Return an open recording that fulfills at least the requirements."""
        # Rules treat what lies between two layers as they find it: a layer with the batch
        # normalisation behind it is one, unless a layer is recorded between them.
        ruled = not isinstance(requirements.gates, str)
        for have, recording in self._open.items():
            if have == requirements or (have.covers(requirements) and not ruled):
                return recording
        merged = requirements
        for other in self.wanted:
            # A tape starts at its earliest layer, so recordings with tapes stay apart.
            apart = ruled or other.tape or requirements.tape
            if other.gates == requirements.gates and not apart:
                merged = merged.merged(other)
        recording = self._stack.enter_context(open_recording(self.model, self.inputs, merged))
        self._open[merged] = recording
        self._versions[recording] = _versions(recording)
        return recording

    @property
    def are_open(self) -> bool:
        """Whether any recording is open."""
        return bool(self._open)

    def hooks(self) -> set[int]:
        """Return the ids of the hooks that open recordings have on the model."""
        return {handle for recording in self._open.values() for handle in recording.hooks}

    def check_untouched(self, culprit: str) -> None:
        """Refuse an explainer that worked in place on what all explainers share.

        Raises
        ------
        PluginError
            If the inputs or a recorded activation have changed.
        """
        touched = version(self.inputs) != self._version or any(
            found != _versions(recording) for recording, found in self._versions.items()
        )
        if touched:
            raise PluginError(
                f"{culprit} changed the inputs or a recorded activation in place, which other "
                "methods share.",
                "Its author must work on a copy: tensor.clone().",
            )

    def predictions(self, logits: torch.Tensor, frames: Sequence[Frame]) -> list[Prediction]:
        """Return the prediction for each image of the batch; `logits` are all outputs (B, N)."""
        if self._predictions is None:
            output = self.output()
            if output.scores.shape == logits.shape:
                return self.model.predictions(replace(output, scores=logits), frames)
            # Kept, because suppressing thousands of boxes takes seconds.
            self._predictions = self.model.predictions(output, frames)
        return self._predictions

    def output(self) -> ModelOutput:
        """Return the output for the batch, of a recording if there is one."""
        for recording in self._open.values():
            return recording.output
        if self._output is None:
            self._elsewhere["forwards"] += 1
            self._output = self.model.output(self.inputs)
        return self._output

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits of other inputs, without graph; see `ExplainRequest.logits`."""
        return self._outputs(inputs, lambda output: output.flat)

    def probabilities(self, inputs: torch.Tensor | None) -> torch.Tensor:
        """Return the outputs as the task means them; see `ExplainRequest.probabilities`."""
        link = self.model.task.link
        if inputs is None:
            with torch.no_grad():
                return link(self.output()).detach()
        return self._outputs(inputs, link)

    def _outputs(
        self, inputs: torch.Tensor, read: Callable[[ModelOutput], torch.Tensor]
    ) -> torch.Tensor:
        check_repeatable(self.model, self.inputs)

        def run(start: int, stop: int) -> torch.Tensor:
            self._elsewhere["forwards"] += 1
            return read(
                self.model.output(inputs[start:stop].to(self.model.device, self.model.dtype))
            )

        return torch.cat(list(in_pieces(len(inputs), len(inputs), run)))

    def counts(self) -> dict[str, int]:
        """Return how many forward and backward passes were run."""
        kinds = ("forwards", "backwards")
        own = {k: sum(getattr(one, k) for one in self._open.values()) for k in kinds}
        return {kind: own[kind] + self._elsewhere[kind] for kind in kinds}

    def close(self) -> None:
        """Remove all hooks and drop all graphs."""
        if self.parent is not None:
            self.parent._elsewhere.update(self.counts())
        self._open.clear()
        self._versions.clear()
        self._output = None
        self._stack.close()
