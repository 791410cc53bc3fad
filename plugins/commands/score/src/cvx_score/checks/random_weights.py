"""Copy of a network with random weights, whose activations keep their scale."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cvx_core import MethodError
from cvx_core.models import VisionModel
from cvx_core.recording import hooked
from cvx_score.checks.forward_cache import KnownOutputs, skipping

_AFFINE: dict[type[nn.Module], int] = {nn.Linear: 0, nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
"""Layers that multiply by their weight and add a bias; the dimensions behind their channels."""


class Randomised:
    """A copy of a model that gets random weights repeatedly.

    Matrices and kernels are drawn from a normal distribution with mean zero and the root mean
    square that they had; what has one dimension (biases, the scales of normalisation) is permuted.
    That alone would let networks die: what they had learned kept their activations in range. So
    one forward pass goes through the new layers from the first to the last. It sets the running
    statistics of batch normalisation to those of the new activations, and scales each weight
    so that its layer's output varies as much as it did with the old one (as the initialisation of
    Mishkin and Matas 2016, arXiv:1511.06422, does for a variance of one).

    Parameters
    ----------
    model
        The model. It is copied, which takes the memory of its weights once more.
    inputs
        (B, C, H, W) with which the scale is measured, two or more that differ.
    keep
        Whether to keep what its modules answer to these, so that those before the first random
        layer are not run for every draw. It takes the memory of these activations once more.

    Attributes
    ----------
    model
        The copy.

    Raises
    ------
    MethodError
        If the network can't be copied.
    """

    def __init__(self, model: VisionModel, inputs: Tensor, *, keep: bool = True) -> None:
        self._original, self._inputs = model, inputs
        self.model = copy.copy(model)
        try:
            with torch.inference_mode(False):
                self.model.module = copy.deepcopy(model.module, _with_graph(model.module)).eval()
        # The boundary to the user's module, which may hold anything and define its own copying.
        except Exception as error:
            raise MethodError(
                f"{model.name} can't be copied: {(str(error).splitlines() or [''])[0]}",
                "Omit --sanity (sanity=True), or define __deepcopy__ in the module.",
            ) from error
        self._spread: dict[nn.Module, float] = {}
        both = [[*one.parameters(), *one.buffers()] for one in (self.model.module, model.module)]
        self._pairs = list(zip(*both, strict=True))
        own = _own(self.model.module.modules())
        self._sizes = {one: _size(one) for one in own if one.ndim > 1}
        self._known = KnownOutputs(keep=keep)
        self._layers = self._in_forward_order()

    def randomise(self, share: float, generator: torch.Generator) -> VisionModel:
        """Return the copy with the last layers random and those before them as in the original.

        Parameters
        ----------
        share
            Of the layers, counted from the output, in [0, 1]; at least the last one.
        generator
            On the CPU.
        """
        count = max(1, round(len(self._layers) * share))
        chosen = {one: None for _, one in self._layers[-count:]}
        changed = set(_own(chosen))
        # Layers that share a weight with a random one are random too.
        first = min(
            turn for turn, one in self._layers if one in chosen or changed & set(_own([one]))
        )
        with torch.no_grad():
            self._restore(chosen)
            for parameter in _own(chosen):
                _redraw(parameter, self._sizes.get(parameter, 0.0), generator)
            known = self._known.before(first, self.model.module)
            with self._scaling(chosen), skipping(known):
                self.model.logits(self._inputs)
        # Layers depend on the architecture only. A selection on random weights might differ
        # from that of the explanation.
        self.model.facts.adopt(self._original.facts)
        return self.model

    def _in_forward_order(self) -> list[tuple[int, nn.Module]]:
        """Return the modules with own weights, with the order of their calls.

        A module that is never called (its parent passes its weight to a function) is listed with
        its parent. The variation of their outputs is measured as well.
        """
        module, known = self.model.module, self._known

        def arrive(one: nn.Module, _args: Any, _kwargs: Any) -> None:
            known.arrive(one)

        def leave(one: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            known.leave(one, output)
            if one not in self._spread and _has_kernel(one) and isinstance(output, Tensor):
                self._spread[one] = _variation(output)

        with hooked(((one, one) for one in module.modules()), before=arrive, after=leave):
            self.model.logits(self._inputs)
        inherited: dict[str, int] = {}
        found: list[tuple[int, nn.Module]] = []
        for name, one in module.named_modules():
            above = inherited.get(name.rpartition(".")[0], 0) if name else 0
            inherited[name] = known.turn.get(one, above)
            if _statistics(one) or any(True for _ in _own([one])):
                found.append((inherited[name], one))
        return sorted(found, key=lambda pair: pair[0])

    def _restore(self, redrawn: Iterable[nn.Module]) -> None:
        """Restore changed parameters, except for kernels that are redrawn."""
        drawn = {p for p in _own(redrawn) if p.ndim > 1}
        for mine, theirs in self._pairs:
            if mine not in drawn:
                mine.copy_(theirs)

    @contextmanager
    def _scaling(self, chosen: Iterable[nn.Module]) -> Iterator[None]:
        seen: set[nn.Module] = set()

        def before(one: nn.Module, args: tuple[Any, ...], _kwargs: Any) -> None:
            statistics = _statistics(one)
            if statistics and one not in seen and args and isinstance(args[0], Tensor):
                seen.add(one)
                _measure(args[0], *statistics)

        def after(one: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            if one in seen or one not in self._spread or not isinstance(output, Tensor):
                return None
            seen.add(one)
            factor = self._spread[one] / (_variation(output) or 1.0)
            if not 0 < factor < float("inf"):
                return None
            one.weight.mul_(factor)  # type: ignore[operator]
            bias = _bias(one)
            if bias is None:
                return one.forward(*args, **kwargs)
            return output.sub(bias).mul_(factor).add_(bias)

        with hooked(((one, one) for one in chosen), before=before, after=after):
            yield


def _with_graph(module: nn.Module) -> dict[int, Tensor]:
    """Return copies, by id, of tensors that modules keep and PyTorch refuses to copy."""
    return {
        id(value): value.detach().clone()
        for one in module.modules()
        for value in vars(one).values()
        if isinstance(value, Tensor) and value.grad_fn is not None
    }


def _own(modules: Iterable[nn.Module]) -> Iterator[nn.Parameter]:
    for one in modules:
        yield from (p for p in one.parameters(recurse=False) if p.is_floating_point())


def _has_kernel(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    return weight is not None and weight.ndim >= 2


def _bias(module: nn.Module) -> Tensor | float | None:
    """Return the bias of an output that is otherwise proportional to the weight, or None.

    Subclasses may do anything with their weight.
    """
    if type(module) not in _AFFINE or "forward" in vars(module):
        return None
    bias = module._parameters["bias"]
    return 0.0 if bias is None else bias.reshape(-1, *[1] * _AFFINE[type(module)])


def _statistics(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Return the running mean and variance that a module keeps, whatever its class."""
    mean, variance = (module._buffers.get(f"running_{key}") for key in ("mean", "var"))
    return None if mean is None or variance is None else (mean, variance)


def _size(parameter: Tensor) -> float:
    """Return the root mean square."""
    return float(parameter.detach().float().square().mean().sqrt())


def _redraw(parameter: nn.Parameter, size: float, generator: torch.Generator) -> None:
    if parameter.ndim < 2:
        order = torch.randperm(parameter.numel(), generator=generator)
        parameter.copy_(parameter.flatten()[order.to(parameter.device)].reshape(parameter.shape))
        return
    # Drawn on the processor, so that a seed means the same network on every device.
    parameter.copy_(torch.randn(parameter.shape, generator=generator).mul_(size))


def _centred(x: Tensor, dimension: int) -> tuple[Tensor, Tensor]:
    """Return the means of the channels, and what is left of (B, ...) without them, as float."""
    x = x.detach().float()
    others = [d for d in range(x.ndim) if d != dimension]
    mean = x.mean(others, keepdim=True)
    return mean.flatten(), x - mean


def _variation(output: Tensor) -> float:
    """Return the deviation within the channels: what a bias adds to all does not count."""
    _, rest = _centred(output, 1 if output.ndim == 4 else output.ndim - 1)
    return float(rest.square_().mean().sqrt())


def _measure(x: Tensor, mean: Tensor, variance: Tensor) -> None:
    dimension = 1 if x.ndim > 1 and x.shape[1] == mean.numel() else x.ndim - 1
    if x.ndim < 2 or x.shape[dimension] != mean.numel():
        return
    found, rest = _centred(x, dimension)
    mean.copy_(found)
    variance.copy_(rest.square_().mean([d for d in range(x.ndim) if d != dimension]))
