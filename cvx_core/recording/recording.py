"""The recording: one forward pass, then any number of vector-Jacobian products."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from cvx_core.errors import LayerError, MethodError, ModelError
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.models.forward import eager
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording.interception import autograd
from cvx_core.recording.interception.choices import as_chosen, choosing
from cvx_core.recording.interception.constants import Constants
from cvx_core.recording.interception.decoder import Decoding, decoded
from cvx_core.recording.interception.function_mode import Interception
from cvx_core.recording.interception.leakage import Leakage, Origin
from cvx_core.recording.layers.layer import Layer, computed_again, first_tensor, with_tensor
from cvx_core.recording.layers.layout import Layout
from cvx_core.recording.requirements import Requirements
from cvx_core.recording.rules.base import Passage, Propagation
from cvx_core.recording.saved_tensors import SavedTensors, Tape
from cvx_core.tasks.outputs import ModelOutput


class Recording:
    """One forward pass with everything in `requirements` kept; a context manager.

    Entering it runs the forward pass in evaluation mode. Leaving it removes every hook and
    restores modes and random state. Nothing before the earliest layer builds a graph.

    Parameters
    ----------
    model
        The model.
    inputs
        (B, C, H, W), on the model's device and in its dtype.
    requirements
        What to record.
    layers
        The layer behind each name in `requirements`, as `open_recording` resolves them.

    Attributes
    ----------
    logits
        All outputs (B, N), with the graph: the logits (B, classes) of a classifier.
    output
        The same in the form in which targets read it, without graph.
    forwards, backwards
        Passes run so far.
    hooks
        Ids of the hooks that it has put on the model.

    Raises
    ------
    ModelError
        If the model fails on the input.
    LayerError
        If a layer is not in the model.
    """

    def __init__(
        self,
        model: VisionModel,
        inputs: Tensor,
        requirements: Requirements,
        layers: Mapping[str, Layer],
    ) -> None:
        self.model, self.inputs, self.requirements = model, inputs, requirements
        self._layers = dict(layers)
        self.hooks: set[int] = set()
        self.forwards = self.backwards = 0
        self.logits: Tensor
        self.output: ModelOutput
        self.nodes: dict[str, Tensor] = {}
        # Hooks are called in whatever thread runs the model; this recording is of one.
        self._thread = threading.get_ident()
        self._stack, self.saved = ExitStack(), SavedTensors()
        self._tape = Tape(self.saved) if requirements.tape else None
        self.kept_constants = Constants() if requirements.constants else None
        self.passage: Passage | None = None
        if isinstance(requirements.gates, Propagation):
            at_input = "input" in requirements.layers
            self.passage = requirements.gates.begin(model, self.saved, at_input=at_input)
            self.passage.constants = self.kept_constants
        self.baselines: dict[str, Tensor] = {}
        self.baseline_logits: Tensor | None = None
        self._calls: dict[str, int] = {}
        self._running: Literal["", "forward", "backward"] = ""
        self._returned: Any = None
        self._replacing: dict[str, Tensor] | None = None
        self._over = False
        self.mode = Interception(
            self.saved,
            freeze=requirements.gates == "frozen",
            tape=self._tape,
            attention=requirements.attention,
            attended=self._attended if requirements.attention_gradients else None,
            constants=self.kept_constants,
            table=None if self.passage is None else self.passage.table,
            own_constants=frozenset() if self.passage is None else self.passage.own_constants,
        )

    def __enter__(self) -> Recording:
        # Left in reverse: hooks, modes and random state, and last the caller's inference mode,
        # under which nothing that is recorded could have a graph.
        try:
            self._stack.enter_context(torch.inference_mode(False))
            self._stack.enter_context(evaluation_mode(self.model.module))
            self._attach()
            self._forward()
        except BaseException as failed:
            self.__exit__(None, None, None)
            if isinstance(failed, ModelError) and self.requirements.gates != "native":
                raise autograd.without_gradient(self.model, self.inputs[:1]) or failed from failed
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._over = True
        # Logits are used after the recording. Their graph would keep all activations alive.
        self.nodes.clear()
        self._stack.close()
        self._tape = self.passage = None
        self.baselines.clear()
        if hasattr(self, "logits"):
            self.logits = self.logits.detach()

    def layer(self, name: str) -> Layer:
        """Return the layer behind a name, recorded or not."""
        return self._layers.get(name) or Layout.of(self.model, self.inputs).find(name)

    def activation(self, name: str) -> Tensor:
        """Return the activation of a layer as (B, C, h, w), without graph."""
        return self._layers[name].positions(self.node(name).detach())

    def raw(self, name: str) -> Tensor:
        """Return the activation of a layer as the module returned it, without graph."""
        return self.node(name).detach()

    def gradient(self, seed: Tensor, name: str) -> Tensor:
        """Return d<seed, logits> / d(activation) of a layer as (B, C, h, w)."""
        return self._layers[name].positions(self.gradients(seed, name)[0])

    def gradients(
        self, seed: Tensor, *names: str, missing: Literal["raise", "zero"] = "raise"
    ) -> list[Tensor]:
        """Return d<seed, logits> / d(activation) of several layers, laid out as recorded.

        Parameters
        ----------
        seed
            (B, classes), held constant.
        *names
            Names of recorded layers.
        missing
            Result for a layer that the logits don't depend on: an error, or zeros.

        Raises
        ------
        MethodError
            If the logits don't depend on a layer and `missing` is ``"raise"``.
        """
        nodes = [self.node(name) for name in names]
        # Without a graph (under no_grad, say) autograd would raise an error of its own.
        if not self.has_gradient:
            found: Sequence[Tensor | None] = [None] * len(nodes)
        else:
            found = self.backward(self.logits, nodes, seed.to(self.logits))
        if missing == "raise":
            for name, gradient in zip(names, found, strict=True):
                if gradient is None:
                    raise self.no_path(name)
        return [
            torch.zeros_like(node) if gradient is None else gradient
            for node, gradient in zip(nodes, found, strict=True)
        ]

    def pull(self, vector: Tensor, *, at: str, to: str) -> Tensor:
        """Pull a vector at one layer back to an earlier one: J^T v.

        Parameters
        ----------
        vector
            Laid out as ``raw(at)``, held constant; the result is laid out as ``raw(to)``.
        at, to
            Layers that were recorded.
        """
        [found] = self.backward(self.node(at), [self.node(to)], vector)
        return torch.zeros_like(self.node(to)) if found is None else found

    @cached_property
    def has_gradient(self) -> bool:
        """Whether a backward pass from the logits leads anywhere."""
        return autograd.has_gradient(self.logits)

    def attention(self) -> list[Tensor]:
        """Return the attention probabilities (B, heads, queries, keys), in forward order."""
        return list(self.mode.attention or [])

    def replay(self, name: str, value: Tensor) -> Tensor:
        """Return the logits (B, classes) with the gates as recorded and `value` at a layer.

        Raises
        ------
        MethodError
            If no tape was recorded, or it starts at another layer.
        """
        if self._tape is None:
            raise MethodError("Nothing to replay.", "Record with gates='frozen' and tape=True.")
        # From a later layer on the network would ask for gates that lie further back on the tape.
        if self._first != self._layers[name].name:
            raise MethodError(
                f"The tape starts at {self._first}, so it can't be replayed from {name}.",
                "Record that layer alone.",
            )
        self._tape.rewind()
        self._tape.replaying, self.mode.started = True, False
        self._replacing = {self._layers[name].name: value.detach()}
        try:
            with torch.inference_mode(False), torch.no_grad():
                return self._run().detach()
        finally:
            self._tape.replaying, self._replacing = False, None

    def node(self, name: str) -> Tensor:
        """Return the activation of a recorded layer as a node of the graph.

        Raises
        ------
        LayerError, MethodError
            If it was not recorded, or the recording is over.
        """
        if name not in self._layers and name not in self.nodes:
            raise LayerError(
                f"{name!r} was not recorded.", f"Recorded: {', '.join(self._layers) or 'nothing'}."
            )
        if self._over:
            raise MethodError(
                "The recording is closed, and its activations are released.",
                "Use it inside its `with` block.",
            )
        return self.nodes[self._layers[name].name if name in self._layers else name]

    @contextmanager
    def again(self, name: str, image: Tensor) -> Iterator[tuple[Recording, Leakage]]:
        """Run one image again, to learn in which modules leakage arises."""
        layer = self.layer(name)
        again = Requirements(layer.name, gates=self.requirements.gates)
        recording = Recording(self.model, image, again, {layer.name: layer})
        leakage = recording.mode.leakage
        with leakage.measuring(self.model.module), recording:
            yield recording, leakage

    def no_path(self, name: str) -> MethodError:
        """Return the error for a layer on which the model's output does not depend."""
        image = self.inputs[:1]
        if not self.has_gradient and (error := autograd.without_gradient(self.model, image)):
            return error
        ends: Sequence[Origin] = self.mode.leakage.ends
        if ends:
            with self.again(self.layer(name).name, image) as (_, leakage):
                ends = leakage.ends
        return autograd.no_path(name, ends, frozen=self.requirements.gates != "native")

    def _attach(self) -> None:
        # One hook for each module: two layers may be two calls of the same.
        wanted: dict[str, dict[int, Layer]] = {}
        for layer in self._layers.values():
            if layer.kind != "input":
                wanted.setdefault(layer.module, {})[layer.call] = layer
        for name, calls in wanted.items():
            module = self.model.module.get_submodule(name)
            handle = module.register_forward_hook(self._hook(name, calls))
            self._stack.callback(handle.remove)
            self.hooks.add(handle.id)

    def _hook(self, name: str, calls: dict[int, Layer]) -> Any:
        def hook(_module: Any, _args: Any, output: Any) -> Any:
            if threading.get_ident() != self._thread:
                return None
            # Checkpointed modules run again in the backward pass, which must build the same graph.
            if self._running != "forward":
                return computed_again(output) if self._running else None
            k = self._calls[name] = self._calls.get(name, -1) + 1
            if k not in calls:
                return None
            tensor = first_tensor(output)
            assert tensor is not None
            return with_tensor(output, tensor, self._keep(calls[k].name, tensor))

        return hook

    def _attended(self, probabilities: Tensor) -> Tensor:
        """Make attention probabilities a node, under a name of their own."""
        if self._running != "forward":
            again: Tensor = computed_again(probabilities)
            return again
        k = self._calls["attention"] = self._calls.get("attention", -1) + 1
        return self._keep(f"attention#{k}", probabilities)

    def _keep(self, name: str, tensor: Tensor) -> Tensor:
        """Make a tensor a node of the graph; the network continues with a copy."""
        self.mode.started = True
        # Hidden from rules and tape: for them the layer begins here, whatever it was made of.
        with torch._C.DisableTorchFunction():
            if self._replacing is not None:
                value = self._replacing.get(name)
                return tensor if value is None else value.clone()
            # The earliest layer is the leaf of the graph, also where the caller's inputs have one.
            if not self.nodes:
                self._first, tensor = name, tensor.detach()
            # Later layers stay in the graph, so that the gradient of an earlier one passes them.
            node = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
            self.nodes[name] = node
            # A copy: the network may overwrite it in place, and the node must keep its value.
            return node.clone()

    def _forward(self) -> None:
        if self.passage is not None:
            self._compare(self.passage)
        # Before the first layer nothing requires a gradient, so that no graph is built there.
        with torch.enable_grad():
            self.logits = self._run()
        self.mode.leakage.over = True
        if self._tape is not None:
            self._tape.seal()
        if absent := [p.name for p in self._layers.values() if p.name not in self.nodes]:
            raise MethodError(
                f"The forward pass did not run {', '.join(absent)} this time.",
                "The network's path depends on its data; name a layer that is always used.",
            )

    def _compare(self, passage: Passage) -> None:
        """Run the baseline before the inputs, if the rules compare the two."""
        baseline = passage.baseline_inputs(self.inputs)
        if baseline is None:
            return
        inputs, mode = self.inputs, self.mode
        try:
            if self.model.task.output_parts > 1:
                self.mode = choosing(mode)
                with torch.enable_grad():
                    self._run()
                self.nodes.clear()
                self.mode = as_chosen(mode, self.mode)
            self.inputs = baseline
            with torch.no_grad():
                self.baseline_logits = self._run().detach()
        finally:
            self.inputs, self.mode = inputs, mode
        self.baselines = {name: node.detach() for name, node in self.nodes.items()}
        self.nodes.clear()
        self.mode.started = False
        passage.compare()

    def _run(self) -> Tensor:
        self.forwards += 1
        self._calls.clear()
        self._running, given = "forward", self.inputs
        try:
            kept = torch.autograd.graph.saved_tensors_hooks(self.saved.pack, self.saved.unpack)
            decoding = Decoding(self.mode.rules, self.model.facts.notes, given.shape[1:])
            with eager(), kept, self.mode, decoding.unless_known:
                # Tensors made under inference mode can't take part in a graph; a clone can.
                inputs = (given.clone() if given.is_inference() else given).detach()
                for layer in self._layers.values():
                    if layer.kind == "input":
                        inputs = self._keep(layer.name, inputs)
                output = decoding.undecoded(self.model.run(inputs))
                if self._replacing is None:
                    self.mode.leakage.ends = self.mode.leakage.origins(output)
            # Outside the mode: a readout is no part of the network whose gates are frozen.
            with eager(), kept:
                if self._replacing is not None:
                    return autograd.tangent(self.model.read, self._returned, output)
                reading = self.model.parse_output(decoded(output))
        finally:
            self._running = ""
        self.output = reading.detached()
        self._returned = None if self._tape is None else autograd.unlinked(output)
        return reading.flat

    def backward(
        self, output: Tensor, nodes: Sequence[Tensor], vector: Tensor, *, twice: bool = False
    ) -> Sequence[Tensor | None]:
        """Return d<vector, output> / d(node) for tensors of the recorded graph; see `pull_back`."""
        self.backwards += 1
        self._running = "backward"
        try:
            with torch.inference_mode(False), self.mode:
                return autograd.pull_back(output, nodes, vector, twice=twice)
        finally:
            self._running = ""
