"""Backward pass of a model, with its failures turned into errors that name the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree

from cvx_core.errors import CvxError, MethodError
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.models.forward import eager
from cvx_core.plugins.discovery import registry
from cvx_core.plugins.parameters import build
from cvx_core.recording.interception.decoder import decoded
from cvx_core.recording.interception.leakage import Origin
from cvx_core.recording.layers.hooks import hooked
from cvx_core.recording.layers.layer import first_tensor
from cvx_core.recording.rules.autograd import graph_nodes
from cvx_core.recording.rules.call import any_active

if TYPE_CHECKING:
    from cvx_core.models.vision_model import VisionModel


def pull_back(
    output: Tensor, nodes: Sequence[Tensor], vector: Tensor, *, twice: bool = False
) -> list[Tensor | None]:
    """Return d<vector, output> / d(node) for each node, None if there is no path.

    With `twice` the result has a graph, and can be differentiated with respect to the vector.

    Raises
    ------
    MethodError
        If the network's own backward pass fails.
    """
    try:
        return list(
            torch.autograd.grad(
                output, nodes, vector, retain_graph=True, create_graph=twice, allow_unused=True
            )
        )
    # A RuntimeError too, but not of the network: the caller goes on with a smaller batch.
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise MethodError(
            f"The network's backward pass failed: {reason}", _way_out(reason)
        ) from error


def has_gradient(output: Tensor) -> bool:
    """Whether a backward pass from a tensor reaches the leaves of its graph."""
    # PyTorch puts such a node where an operation (a quantized one, say) has no derivative. Its
    # backward pass only warns, and the gradient behind it is missing or zero.
    if not output.requires_grad:
        return False
    for node in graph_nodes(output.grad_fn):  # noqa: SIM110 - a generator is a call for each node
        if "NotImplemented" in node.name():
            return False
    return True


def _is_end(node: Any) -> bool:
    return "NotImplemented" in str(node.name())


def without_gradient(model: VisionModel, image: Tensor) -> MethodError | None:
    """Return the error for a network through which no gradient passes, None if one does.

    The network runs once on the image (1, C, H, W) to find the module in which the gradient ends.
    """
    ends: list[tuple[str, str]] = []

    def look(name: str, args: Any, kwargs: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if ends or tensor is None or not any_active((args, kwargs)):
            return
        node = tensor.grad_fn
        if tensor.requires_grad and (node is None or not _is_end(node)):
            return
        kind = type(model.module.get_submodule(name))
        why = f"{kind.__module__}.{kind.__qualname__} has no derivative"
        if torch.is_inference_mode_enabled():
            why = "it runs under torch.inference_mode"
        elif not torch.is_grad_enabled():
            why = "it runs under torch.no_grad"
        ends.append((name, why))

    modules = [(name, module) for name, module in model.module.named_modules() if name]
    with torch.inference_mode(False), torch.enable_grad(), evaluation_mode(model.module), eager():
        inputs = image.detach().clone().requires_grad_()
        with hooked(modules, after=look):
            output = model.read(model.run(inputs))
        nodes = list(graph_nodes(output.grad_fn))
        reached = any(getattr(node, "variable", None) is inputs for node in nodes)
        if reached and not any(map(_is_end, nodes)):
            return None
    able = ", ".join(installed_explainers(lambda one: not one.needs_gradient))
    hint = "Use a method that only runs the network" + (f": {able}" if able else "")
    if output.requires_grad:  # what lies behind has parameters, so that there may be layers
        hint += ", or name a later layer"
    return MethodError(
        f"No gradient passes {ends[0][0]!r}: {ends[0][1]}."
        if ends
        else f"No gradient flows from the output of {model.name} back to its input: its forward "
        "computes under torch.no_grad, detaches, or decides by argmax.",
        hint + ".",
    )


def installed_explainers(fits: Callable[[Any], bool]) -> Iterator[str]:
    """Yield the names of installed explainers for which a function is true."""
    for offer in registry().offers("explainer"):
        try:
            explainer = build("explainer", offer.component, {})
        except CvxError:  # one that has a parameter without default, or is broken
            continue
        if fits(explainer):
            yield offer.component.name


def no_path(name: str, ends: Sequence[Origin], *, frozen: bool) -> MethodError:
    """Return the error for a layer on which the model's output does not depend.

    Parameters
    ----------
    name
        The layer.
    ends
        The frozen functions that the output is computed from instead.
    frozen
        Whether gates are frozen.
    """
    where = ", ".join(f"{end.function} in {end.module or 'the network itself'}" for end in ends)
    return MethodError(
        f"No gradient flows from the model's output back to {name!r}"
        + (f": it ends in frozen functions, {where}." if where else "."),
        "With frozen gates nothing passes a sigmoid, softplus or softmax. Have the model return "
        "logits, not probabilities; where such a function is an activation inside, use a method "
        "that follows the model's own gradient."
        if frozen
        else "The model computes under no_grad, detaches, or decides by argmax after this "
        "layer; name a later one.",
    )


def _way_out(reason: str) -> str:
    if "inplace" in reason:
        return (
            "The network overwrites in place what its gradient needs, so that it can't be trained "
            "either; write that step out of place, or name a later layer."
        )
    if "reentrant" in reason:
        return "Let the network call checkpoint(..., use_reentrant=False), or no checkpoint at all."
    return "Name a later layer, behind the function that has no gradient."


def unlinked(output: Any) -> Any:
    """Return what a network returned, without graph, where torch can find the tensors in it."""
    return _pytree.tree_map(lambda one: one.detach() if isinstance(one, Tensor) else one, output)


def tangent(function: Callable[[Any], Tensor], at: Any, value: Any) -> Tensor:
    """Return what the tangent of a function at an output of the network is at another output.

    The function itself where the outputs hold no tensors that torch can find, or others.

    Parameters
    ----------
    function
        From what a network returns, decoded, to (B, N).
    at, value
        Tensors, or nested tuples, lists and mappings of them.
    """
    (before, spec), (after, _) = _pytree.tree_flatten(at), _pytree.tree_flatten(value)
    moved = [k for k, one in enumerate(before) if _is_float(one)]
    if not moved or [_shape(one) for one in before] != [_shape(one) for one in after]:
        return function(decoded(value))

    change = [after[k] - before[k] for k in moved]
    with torch.enable_grad():
        start = [before[k].detach().requires_grad_() for k in moved]
        leaves = dict(enumerate(before)) | dict(zip(moved, start, strict=True))
        there = function(decoded(_pytree.tree_unflatten(list(leaves.values()), spec)))
        if not there.requires_grad:
            return there
        # The derivative in one direction, by the backward pass of a backward pass.
        vector = torch.zeros_like(there, requires_grad=True)
        several = torch.autograd.grad(there, start, vector, create_graph=True, allow_unused=True)
        pairs = [(a * b).sum() for a, b in zip(several, change, strict=True) if a is not None]
        [slope] = torch.autograd.grad(torch.stack(pairs).sum(), [vector])
    return there.detach() + slope


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _shape(value: Any) -> Any:
    return value.shape if isinstance(value, Tensor) else None
