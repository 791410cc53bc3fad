"""What else can be asked of a recording: attention, constants, and runs of the part behind a place.

These answers have files of their own (`gates`, `constants`, `suffix`); here they are given names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cvx_core.errors import MethodError
from cvx_core.recording.autograd import no_path
from cvx_core.recording.interception.constants import Constants
from cvx_core.recording.interception.function_mode import Interception
from cvx_core.recording.interception.leakage import Leakage, Origin, Origins
from cvx_core.recording.interception.saved_tensors import Saved, storages
from cvx_core.recording.layers.layer import Layer
from cvx_core.recording.partial_forward import PartialForward
from cvx_core.recording.requirements import Requirements
from cvx_core.recording.rules.base import Passage, no_rules

if TYPE_CHECKING:
    from cvx_core.models.vision_model import VisionModel
    from cvx_core.recording.conservation import Flows


class FurtherAnswers(ABC):
    """The part of `Recording` that is built on its forward pass and its gradients."""

    model: VisionModel
    inputs: Tensor
    requirements: Requirements
    logits: Tensor
    forwards: int
    backwards: int
    _nodes: dict[str, Tensor]
    reference_logits: Tensor | None
    _constants: Constants | None
    _passage: Passage | None
    _references: dict[str, Tensor]
    _saved: Saved
    _mode: Interception

    @abstractmethod
    def place(self, name: str) -> Layer:
        """Return the place that a name means."""

    @abstractmethod
    def raw(self, name: str) -> Tensor:
        """Return the activation at a place as the module returned it, without graph."""

    @abstractmethod
    def gradients(
        self, seed: Tensor, *names: str, missing: Literal["raise", "zero"] = "raise"
    ) -> list[Tensor]:
        """Return d<seed, logits> / d(activation) at several places, laid out as recorded."""

    @abstractmethod
    def replay(self, name: str, value: Tensor) -> Tensor:
        """Return the logits (B, classes) with the gates as recorded and `value` at a place."""

    @abstractmethod
    def _node(self, name: str) -> Tensor: ...

    @abstractmethod
    def _backward(
        self, output: Tensor, nodes: Sequence[Tensor], vector: Tensor, *, twice: bool = False
    ) -> Sequence[Tensor | None]: ...

    def push(self, vector: Tensor, *, at: str, to: str) -> Tensor:
        """Push a vector at one place forward to a later one: J v, the counterpart of `pull`.

        J^T u is linear in u, so its own derivative is J; hence two passes backward. Record with
        ``gates=Twice()``: some functions have no second derivative as PyTorch computes them.

        Parameters
        ----------
        vector
            Laid out as ``raw(at)``, held constant.
        at, to
            Places that were recorded.

        Returns
        -------
        torch.Tensor
            Laid out as ``raw(to)``; zero where `to` does not depend on `at`.

        Raises
        ------
        MethodError
            If a function between the two can't be differentiated twice.
        """
        source, sink = self._node(at), self._node(to)
        with torch.inference_mode(False):
            dual = torch.zeros_like(sink).requires_grad_()
        [pulled] = self._backward(sink, [source], dual, twice=True)
        if pulled is None:
            return torch.zeros_like(sink)
        [found] = self._backward(pulled, [dual], vector) if pulled.requires_grad else [None]
        if found is None:
            raise MethodError(
                f"What happens between {at!r} and {to!r} can't be differentiated twice.",
                "Name a place before the function that has a gradient of its own.",
            )
        return found.detach()

    def attention_gradients(self, seed: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each self-attention's probabilities A and dS/dA, S = <seed, logits>.

        Both (B, heads, N, N), in forward order; the windows of an image count as heads. Single
        ones are the places ``attention#0``, ``attention#1``, ... of `raw`, `gradients` and `pull`.
        """
        names = [name for name in self._nodes if name.startswith("attention#")]
        if not names:
            return []
        found = self.gradients(seed, *names, missing="zero")
        batch, pairs = self.inputs.shape[0], zip(map(self.raw, names), found, strict=True)
        return [
            (a.reshape(batch, -1, *a.shape[-2:]), d.reshape(batch, -1, *d.shape[-2:]))
            for a, d in pairs
        ]

    def relevance(self, seed: Tensor, name: str) -> Tensor:
        """Return what each value at a place contributes to <seed, logits>, laid out as recorded.

        By the rules that were recorded with; see `cvx_core.recording.rules.base`.

        Raises
        ------
        MethodError
            If there were none, or the logits don't depend on the place.
        """
        node, found = self._node(name), None
        if self._passage is None:
            raise no_rules()
        if self.logits.requires_grad:
            found = self._passage.relevance(
                self.logits,
                seed.to(self.logits),
                node,
                self._references.get(self.place(name).name),
                self._backward,
            )
        if found is None:
            raise self._no_path(name)
        return found

    def constants(self, seed: Tensor) -> list[Tensor]:
        """Return what each constant of the network contributes to <seed, logits>.

        One tensor for each bias, position embedding and the like, in forward order, laid out as the
        result of the function that adds it. With the input's part they sum to the seeded answer.
        """
        if self._constants is None:
            raise MethodError("No constants were kept.", "Record with constants=True.")
        zeros = [zeros for _, zeros in self._constants.kept]
        if not zeros:
            return []
        return self._constants.parts(list(self._backward(self.logits, zeros, seed.to(self.logits))))

    def constant_part(self, name: str) -> Tensor:
        """Return the logits (B, classes) with the gates as recorded and zeros at a place.

        The frozen network is affine in the place: <s, logits> = <gradient, activation> + <s, this>.
        """
        return self.replay(name, torch.zeros_like(self.raw(name)))

    def rerun(self, name: str, value: Tensor, rows: Tensor) -> Tensor:
        """Return logits (N, classes) with values (N, ...) put in at a place, without graph.

        What comes before the place is not computed again, where the network allows that.

        Parameters
        ----------
        name
            Any place.
        value
            Laid out as ``raw(name)``.
        rows
            (N,), the image that each value belongs to.
        """
        self.forwards += 1
        return PartialForward(self.model, self.inputs, self.place(name)).logits(value, rows)

    def rerun_gradient(self, seed: Tensor, name: str, value: Tensor, rows: Tensor) -> Tensor:
        """Return d<seed, logits> / d(value) of `rerun`, for seeds (N, classes)."""
        self.forwards, self.backwards = self.forwards + 1, self.backwards + 1
        return PartialForward(self.model, self.inputs, self.place(name)).gradient(seed, value, rows)

    def flows(self, seed: Tensor, name: str, row: int) -> Flows:
        """Return what each module hands on of <seed, logits> (classes,) of one image, and misses.

        See `cvx_core.recording.conservation`.
        """
        from cvx_core.recording.conservation import flows

        self.forwards, self.backwards = self.forwards + 2, self.backwards + 2
        place, image = self.place(name).name, self.inputs[row : row + 1]
        return flows(self.model, image, place, seed[None])

    def holds_signal(self) -> bool:
        """Whether what a held function made was added to the signal, see `held`."""
        return self._mode.held.met

    def held(self, seed: Tensor, name: str, row: int) -> dict[Origins, float]:
        """Return what held functions add to <seed, logits> (classes,) of one image, largest first.

        Where the signal itself goes through a sigmoid, a softplus or a deviation, what that
        function makes is a constant, which no cell carries; see `cvx_core.recording.interception.leakage`.
        """
        image = self.inputs[row : row + 1]
        with self._again(self.place(name).name, image) as (recording, held):
            nodes = held.nodes()
            self.forwards, self.backwards = self.forwards + 1, self.backwards + 1
            return held.carried(
                list(recording._backward(recording.logits, nodes, seed[None].to(self.logits)))
                if nodes and recording.logits.requires_grad
                else [None] * len(nodes)
            )

    def _no_path(self, name: str) -> MethodError:
        """Return the error for a place on which the model's answer does not depend."""
        ends: Sequence[Origin] = self._mode.held.ends
        if ends:
            with self._again(self.place(name).name, self.inputs[:1]) as (_, held):
                ends = held.ends
        return no_path(name, ends, frozen=self.requirements.gates != "native")

    @contextmanager
    def _again(self, name: str, image: Tensor) -> Iterator[tuple[FurtherAnswers, Leakage]]:
        """Run one image once more, and learn which modules hold what."""
        recording: Any = type(self)(
            self.model, image, Requirements(name, gates=self.requirements.gates)
        )  # type: ignore[call-arg]
        held = recording._mode.held
        with held.measuring(self.model.module), recording:
            yield recording, held

    def memory(self) -> dict[tuple[torch.device, int], int]:
        """Return the bytes of each piece of memory that the recording keeps alive, by its address.

        Activations at places, what the backward pass and a replay will need, attention that was
        asked for, and the logits; memory that several of these share stands there once. The
        model's weights are left out: they are there without the recording.
        """
        optional = [self.reference_logits, *(self._mode.attention or [])]
        if self._constants is not None:
            optional += [tensor for pair in self._constants.kept for tensor in pair]
        held = storages(
            [
                self.logits,
                *self._nodes.values(),
                *self._references.values(),
                *self._saved.tensors(),
                *(tensor for tensor in optional if tensor is not None),
            ]
        )
        module = self.model.module
        weights = storages([*module.parameters(), *module.buffers()])
        return {address: size for address, size in held.items() if address not in weights}
