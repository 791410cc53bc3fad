"""Vision model: a module with its preprocessing, class names and readout."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from cvx_core._util.version import __version__
from cvx_core.errors import ModelError, UsageError
from cvx_core.explanations.metadata import Metadata
from cvx_core.images.image_files import read_image
from cvx_core.images.inputs import listed
from cvx_core.images.prepared_image import PreparedImage as PreparedImage, Preparer, prepare_tensor
from cvx_core.images.preprocessing import Transform
from cvx_core.images.regions import Frame
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.models.final_activation import (
    ACTIVATIONS,
    FinalActivation,
    check_activation,
    check_range,
    logits_of,
)
from cvx_core.models.forward import BatchAxis, check_rows, eager, run_module, run_readout
from cvx_core.models.network_facts import NetworkFacts, input_channels, weight_versions
from cvx_core.plugins.parameters import check_choice
from cvx_core.tasks.base import Readout, Task
from cvx_core.tasks.catalogue import DEFAULT_TASK, get_task
from cvx_core.tasks.outputs import Classes, ModelOutput
from cvx_core.tasks.prediction import Prediction


class VisionModel:
    """A PyTorch vision model with its preprocessing, class names and task.

    Parameters
    ----------
    module
        Any `torch.nn.Module` that takes a float tensor (B, C, H, W). It is used as it is: its
        mode, gradients, hooks and parameters are as found after every call.
    preprocess
        From a PIL image to a float tensor (C, H, W): a torchvision preset, a timm transform, a
        `cvx_core.Preprocess`, or any function. It gets the bands of the file where the network
        takes as many: a PIL image, or an array (H, W, bands) of what has no mode. Without it only
        prepared tensors can be explained.
    classes
        Class names by index. Without them classes are given by index. A detector's last class that
        means "nothing there" needs no name.
    task
        What the outputs mean: ``"classification"``, ``"segmentation"``, ``"detection"`` or another
        that ``cvx plugins`` lists, with parameters as in ``"regression:unit=years"``; or a `Task`.
    name
        For provenance, as in ``"torchvision:resnet50"``.
    readout
        From the module's output to its scores, where the output is unusual: a tensor (B, C) of a
        classifier, (B, C, h, w) of a segmenter, `DetectionCandidates` of a detector. None leaves
        it to the task.
    activation
        Final activation of the network: ``"softmax"`` or ``"sigmoid"`` if it returns probabilities,
        ``"none"`` if it returns logits. None finds it: a softmax or sigmoid at the end is left out
        where the task has it, and what may be either is refused.
    details
        More provenance: where the weights came from, say.

    Raises
    ------
    ModelError
        If `module` is no module or has no parameters on one device.
    UsageError
        If the task is unknown.

    Examples
    --------
    >>> import torch
    >>> from cvx_core import VisionModel
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(),
    ...                           torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
    ...                           torch.nn.Linear(4, 2))
    >>> model = VisionModel(net, classes=["cat", "dog"])
    >>> model.logits(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        module: nn.Module,
        preprocess: Transform | None = None,
        classes: Sequence[str] | None = None,
        task: str | Task = DEFAULT_TASK,
        *,
        name: str = "",
        readout: Readout | None = None,
        activation: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ModelError(
                f"The model must be a torch.nn.Module or a VisionModel, got "
                f"{type(module).__name__}.",
                "Pass the network itself, or load_model('source:name'); a checkpoint is loaded "
                "into a network first.",
            )
        if isinstance(classes, str):
            raise UsageError(
                "classes must be a list of names, got a string.", "Pass one for each class."
            )
        # torch.compile hides the submodules from hooks; the module inside computes the same.
        self.module: nn.Module = getattr(module, "_orig_mod", module)
        self.preparer = Preparer(preprocess, input_channels(self.module))
        self.classes = None if classes is None else tuple(str(c) for c in classes)
        self.task = get_task(task)
        self.name = name or type(self.module).__name__
        if activation is not None:
            check_choice("activation", activation, (*ACTIVATIONS, "none"))
        self.readout, self.activation = readout, activation
        self.details = Metadata(details)
        self._facts: NetworkFacts | None = None
        self._final: str | None = None
        self._unclear: tuple[bool, ...] = ()
        self._batch = BatchAxis()

    def __repr__(self) -> str:
        return f"<VisionModel {self.name} ({self.task.name}, {self.device}, {self.dtype})>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_facts": None}

    @property
    def preprocess(self) -> Transform | None:
        """From a PIL image to the network's input (C, H, W)."""
        return self.preparer.preprocess

    @preprocess.setter
    def preprocess(self, preprocess: Transform | None) -> None:
        self.preparer = Preparer(preprocess, input_channels(self.module))

    @property
    def facts(self) -> NetworkFacts:
        """Facts found about the network; empty after a weight has changed."""
        facts = self._facts
        if facts is None or not facts.are_valid:
            versions = weight_versions(self.module)
            if facts is None or facts.versions != versions:
                if facts is not None and [k for k, _ in facts.versions] != [k for k, _ in versions]:
                    self._final, self._unclear = None, ()  # another module may be the last
                self._facts = facts = NetworkFacts(versions)
        return facts

    def fixed_weights(self) -> AbstractContextManager[None]:
        """Look for changed weights now, and not again inside."""
        return self.facts.validity()

    @property
    def device(self) -> torch.device:
        """Device of the first parameter or buffer."""
        return self._first().device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the first floating-point parameter or buffer."""
        return self._first().dtype

    def _first(self) -> torch.Tensor:
        for tensors in (self.module.parameters(), self.module.buffers()):
            for tensor in tensors:
                if tensor.is_floating_point():
                    return tensor
        return torch.empty(0)

    def to(
        self, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> VisionModel:
        """Move the module to a device and dtype, in place, and return the model.

        Raises
        ------
        ModelError
            If the device is not available.
        """
        try:
            self.module.to(device=device, dtype=dtype)
        except (RuntimeError, AssertionError) as error:
            reason = (str(error).splitlines() or ["unknown reason"])[0]
            raise ModelError(
                f"The model can't be moved to {device or dtype}: {reason}",
                "Use --device cpu, or install a PyTorch that supports the device.",
            ) from error
        return self

    def digest(self) -> str:
        """Return the SHA-256 of all parameters and buffers, first 16 hexadecimal digits."""
        facts = self.facts
        if not facts.digest:
            total = hashlib.sha256()
            for name, tensor in self.module.state_dict(keep_vars=True).items():
                if isinstance(tensor, torch.Tensor):
                    total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                    flat = tensor.detach().cpu().contiguous().reshape(-1)
                    if flat.numel():
                        total.update(flat.view(torch.uint8).numpy().data)
            facts.digest = total.hexdigest()[:16]
        return facts.digest

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return all outputs (B, N) of prepared inputs (B, C, H, W): evaluation mode, no graph.

        N is the number of classes of a classifier; the logits (C, h, w) of a segmenter and the
        logits and boxes of a detector are flattened.

        Raises
        ------
        ModelError
            If the module fails on the inputs.
        """
        return self.output(inputs.to(self.device, self.dtype)).flat

    def run(self, inputs: torch.Tensor) -> Any:
        """Return what the module returns for inputs (B, C, H, W), in its present mode.

        The final activation that the task has is left out, and the batch is brought to the front.
        """
        output = self._run(inputs)
        return output if self.readout else self._batch_first(output, inputs)

    def _batch_first(self, output: Any, inputs: torch.Tensor) -> Any:
        return self._batch.first(output, len(inputs), two=self.task.whole_image)

    def _run(self, inputs: torch.Tensor) -> Any:
        if not self.task.activation or self.activation == "none" or self._final == "":
            return run_module(self.module, inputs, self.name)
        with FinalActivation() as watcher:
            output = run_module(self.module, inputs, self.name)
        found = watcher.found(output)
        if self._final is None:  # it doesn't depend on the weights
            self._final, self._unclear = (found[0] if found else ""), watcher.unclear(output)
        if found is not None and self.activation is None:
            check_activation(found[0], self.task)
        return output if found is None else tree_map(found[1], output)

    def provenance(self, image: PreparedImage) -> dict[str, Any]:
        """Return what a map of an image came from: model, task, weights, image, versions."""
        return {
            "model": self.name,
            "task": self.task.name,
            "whole_image": self.task.whole_image,
            "model_details": self.details,
            "output_note": self.output_note,
            "weights_sha256": self.digest(),
            **image.provenance,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "versions": {
                "cvx": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }

    @property
    def output_note(self) -> str:
        """What was left out of the network's output, for provenance; empty if nothing was."""
        found = self._final
        notes = [f"The final {found} is left out: outputs are its logits."] if found else []
        if self._batch.is_last:
            notes.append("The batch is the last axis of what the network returns.")
        return " ".join(notes)

    def output(self, inputs: torch.Tensor) -> ModelOutput:
        """Return the parsed output for inputs (B, C, H, W): evaluation mode, no graph.

        Raises
        ------
        ModelError
            If the module fails on the inputs.
        """
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            eager(),
            evaluation_mode(self.module),
        ):
            output = self.run(inputs)
            two = self.task.whole_image
            if self.readout is None and self._batch.is_unclear(output, len(inputs), two=two):
                self.run(inputs[:1])
                output = self._batch_first(output, inputs)
            found = self.parse_output(output)
            check_rows(len(found.scores), len(inputs))
            return found

    def read(self, output: Any) -> torch.Tensor:
        """Return all outputs (B, N) in what the module returned; see `parse_output`."""
        return self.parse_output(output).flat

    def parse_output(self, output: Any) -> ModelOutput:
        """Return the scores in what the module returned, checked against the task and classes.

        Raises
        ------
        ModelError
            If they don't have the task's shape, or there are not as many as class names.
        """
        found = self.task.parse(
            self.task.readout(output, self._classes())
            if self.readout is None
            else run_readout(self.readout, output)
        )
        if self.task.activation and not self._final:
            if self.activation in ACTIVATIONS:
                found = replace(found, scores=logits_of(found.scores, self.activation))
            elif self._unclear and self.activation is None and self.readout is None:
                check_range(found.scores, output, self._unclear)
                self._unclear = ()  # later outputs may be of changed activations
        if self.classes is not None and len(self.classes) not in (found.named, found.classes):
            raise ModelError(
                f"The model has {found.classes} outputs and {len(self.classes)} class names.",
                "Pass the class names that belong to these weights.",
            )
        return found

    def _classes(self) -> Classes:
        """Return the class names, or their number by the module's configuration."""
        count = getattr(getattr(self.module, "config", None), "num_labels", None)
        return self.classes or (count if isinstance(count, int) else None)

    def predictions(self, output: ModelOutput, frames: Sequence[Frame]) -> list[Prediction]:
        """Return the prediction for each image of an output, against which targets are resolved.

        Parameters
        ----------
        frames
            How the network's input lies over each image.
        """
        return self.task.predictions(output, self.classes, frames)

    def predict(self, images: Any) -> list[Prediction]:
        """Return the model's prediction for each image.

        Parameters
        ----------
        images
            As for `prepare`.

        Returns
        -------
        list of Prediction
            Of the task, such as `ClassificationPrediction`.

        Raises
        ------
        ModelError, InputError
            See `prepare` and `logits`.
        """
        found: list[Prediction] = []
        for one in self.prepare(images):
            found += self.predictions(self.output(one.tensor[None]), [one.frame])
        return found

    def prepare(self, images: Any) -> list[PreparedImage]:
        """Bring images into the form that the network takes.

        Parameters
        ----------
        images
            A path, folder (with all folders below it), pattern (``"photos/*.jpg"``), URL, PIL
            image, array (H, W, bands), or a sequence of these; or a prepared float tensor
            (B, C, H, W) or (C, H, W). What was prepared before is taken as it is.

        Raises
        ------
        InputError
            If an image can't be read.
        ModelError
            If it is not a tensor and the model has no preprocess.
        """
        device, dtype = self.device, self.dtype
        if isinstance(images, torch.Tensor):
            return [one.to(device, dtype) for one in prepare_tensor(images)]
        items: list[Any] = [images] if isinstance(images, PreparedImage) else listed(images)
        if items and all(isinstance(item, torch.Tensor) for item in items):
            found = [one for item in items for one in prepare_tensor(item)]
            return [one.to(device, dtype) for one in found]
        return [
            (
                item
                if isinstance(item, PreparedImage)
                else self.preparer.prepare(read_image(item, i))
            ).to(device, dtype)
            for i, item in enumerate(items)
        ]
