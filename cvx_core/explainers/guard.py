"""Guard of a model: what an explainer leaves on it is found, undone and named."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cvx_core._util.modules import named_modules
from cvx_core.errors import PluginError
from cvx_core.explainers.request import SharedRecordings
from cvx_core.models.forward import version
from cvx_core.models.vision_model import VisionModel

LARGEST = 256 * 1024**2
"""Bytes of weights up to which a copy is kept, to undo changes."""

_SAMPLED = 1024
"""Values of a tensor that are compared after each explainer, where its version is the same."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PARTS = ("_modules", "_parameters", "_buffers")
_RUNNING: list[ModelGuard] = []
_LOCK = threading.Lock()


class ModelGuard:
    """What a model was before explainers ran.

    Parameters
    ----------
    model
        The model.
    """

    def __init__(self, model: VisionModel) -> None:
        self.model = model
        self._shared = False
        self._modules = named_modules(model.module)
        self._parts: list[tuple[str, nn.Module, str, dict[str, Any]]] = []
        self._forwards: list[tuple[str, nn.Module, Any]] = []
        self._tensors: dict[str, Tensor] = {}
        self._buffers: set[str] = set()
        self._flags: dict[str, tuple[bool, Tensor | None]] = {}
        size = 0
        # Loops here and below, not comprehensions: each is a call for each module or weight.
        for name, module in self._modules:
            self._forwards.append((name, module, vars(module).get("forward")))
            if isinstance(module, torch.jit.ScriptModule):
                continue
            for kind in _PARTS:
                now = getattr(module, kind)
                self._parts.append((name, module, kind, dict(now)))
                for key, tensor in now.items():
                    if not isinstance(tensor, Tensor):
                        continue
                    full = f"{name}.{key}" if name else key
                    self._tensors[full] = tensor
                    size += tensor.nbytes
                    if kind == "_buffers":
                        self._buffers.add(full)
                    else:
                        self._flags[full] = tensor.requires_grad, tensor.grad
        self._kept = _kept(model.module, self._tensors) if size <= LARGEST else None
        # Without a copy, of the weights alone: a network may change its own buffers.
        self._versions = {} if self._kept else {n: version(self._tensors[n]) for n in self._flags}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Surround a run; while others run on the model in other threads, nothing is checked."""
        with _LOCK:
            others = [one for one in _RUNNING if one.model.module is self.model.module]
            self._shared = bool(others)
            for other in others:
                other._shared = True
            _RUNNING.append(self)
        try:
            yield
        finally:
            with _LOCK:
                _RUNNING.remove(self)

    @contextmanager
    def watching(self, culprit: str, recordings: SharedRecordings) -> Iterator[None]:
        """Find, undo and name what is left on the model inside.

        Parameters
        ----------
        culprit
            Name of the explainer.
        recordings
            Those that the explainer may open: they have hooks, put the network into evaluation
            mode, and are closed later.

        Raises
        ------
        PluginError
            If anything was left.
        """
        hooks, modes = self._hooks(), self._modes()
        left: list[str] = []
        try:
            yield
        finally:
            # What another thread has on the model at this time is not the explainer's.
            left = (
                []
                if self._shared
                else [
                    *self._undo_hooks(hooks, recordings.hooks()),
                    *self._undo_modes(modes, evaluating=recordings.are_open),
                    *self._undo_parts(),
                    *self._undo_values(recordings.inputs[:1]),
                ]
            )
        if left:
            raise PluginError(
                f"{culprit} left the model changed: {'; '.join(left[:3])}"
                + (f"; and {len(left) - 3} more." if len(left) > 3 else "."),
                "Its author must leave the model as found: open_recording() and hooked() remove "
                "what they add.",
            )

    def _hooks(self) -> set[tuple[str, str, int]]:
        """Return the name, kind and number of all hooks."""
        found = set()
        for name, module in self._modules:
            for kind in _HOOKS:
                for key in getattr(module, kind):
                    found.add((name, kind, key))
        return found

    def _undo_hooks(self, before: set[tuple[str, str, int]], own: Collection[int]) -> Iterator[str]:
        left = [one for one in self._hooks() - before if one[2] not in own]
        modules = dict(self._modules) if left else {}
        for name, kind, key in sorted(left):
            del getattr(modules[name], kind)[key]
            yield (
                f"a {kind.strip('_').removesuffix('s').replace('_', ' ')} on {_shown(name)}, "
                "removed"
            )

    def _modes(self) -> list[bool]:
        return [module.training for _, module in self._modules]

    def _undo_modes(self, before: list[bool], *, evaluating: bool) -> Iterator[str]:
        for (name, module), was in zip(self._modules, before, strict=True):
            expected = was and not evaluating
            if module.training != expected:
                module.training = expected
                yield f"the mode of {_shown(name)}, restored"

    def _undo_parts(self) -> Iterator[str]:
        for name, module, kind, before in self._parts:
            now = getattr(module, kind)
            same = len(now) == len(before)
            for key, value in now.items():
                same = same and before.get(key, now) is value
            if not same:
                keys = [k for k in {**before, **now} if now.get(k) is not before.get(k)]
                now.clear()
                now.update(before)
                yield f"{', '.join(keys)} of {_shown(name)}, put back"
        for name, module, forward in self._forwards:
            if vars(module).get("forward") is not forward:
                del module.forward
                if forward is not None:
                    setattr(module, "forward", forward)  # noqa: B010 - a method
                yield f"forward of {_shown(name)}, put back"

    def _undo_values(self, image: Tensor) -> Iterator[str]:
        for name in self._changed_values(image):
            with torch.no_grad():
                assert self._kept is not None
                self._tensors[name].data.copy_(self._kept.copies[name])
            yield f"the values of {name}, restored"
        for name, number in self._versions.items():
            if version(self._tensors[name]) != number:
                self._versions[name] = version(self._tensors[name])
                yield f"the values of {name}, which is too large to be restored: load it again"
        for name, (flag, grad) in self._flags.items():
            tensor = self._tensors[name]
            if tensor.requires_grad != flag:
                tensor.requires_grad_(flag)
                yield f"requires_grad of {name}, restored"
            if tensor.grad is not grad:
                tensor.grad = grad
                yield f"the gradient of {name}, put back"

    def _changed_values(self, image: Tensor) -> list[str]:
        changed = self._kept.changed(self._tensors) if self._kept else []
        counted = {name: self._tensors[name].clone() for name in changed if name in self._buffers}
        if counted:
            # A network may itself change a buffer whenever it runs, as one that counts.
            self.model.output(image)
            own = [
                name for name, before in counted.items() if not _same(self._tensors[name], before)
            ]
            changed = [name for name in changed if name not in own]
        return changed


class _Kept:
    """Copy of the weights of a network.

    Comparing all values after each explainer would take as long as a good part of a forward pass.
    Whatever changes a tensor in place also changes its version, except through ``.data`` or NumPy:
    for these a sample of each tensor is compared, of all tensors together.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.copies: dict[str, Tensor] = {}
        self._marks: dict[str, _Mark] = {}
        self._views: dict[torch.device, dict[torch.dtype, dict[str, Tensor]]] = {}
        self._samples: dict[torch.device, Tensor] = {}
        self.take(tensors, list(tensors))

    def take(self, tensors: Mapping[str, Tensor], names: Sequence[str]) -> None:
        """Copy some of the tensors as they are."""
        if not names:
            return
        for name in names:
            self.copies[name] = tensors[name].detach().clone()
            self._marks[name] = _mark(tensors[name])
        found: dict[torch.device, dict[torch.dtype, dict[str, Tensor]]] = {}
        for name, tensor in tensors.items():
            view = _sample(tensor)
            if view is not None:
                found.setdefault(view.device, {}).setdefault(view.dtype, {})[name] = view
        self._views = found
        self._samples = {device: _joined(views) for device, views in found.items()}

    def suspects(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Return the names of tensors that may have changed."""
        found: dict[str, None] = {}
        for name, tensor in tensors.items():
            changes = 0 if tensor.is_inference() else tensor._version
            if (id(tensor), tensor.data_ptr(), changes) != self._marks.get(name):
                found[name] = None
        for device, sample in self._samples.items():
            views = self._views[device]
            now = _joined(views)
            if not torch.equal(now, sample):
                flat = {name: view for several in views.values() for name, view in several.items()}
                sizes = [view.nbytes for view in flat.values()]
                parts = torch.split(now, sizes), torch.split(sample, sizes)
                pairs = zip(flat, *parts, strict=True)
                found |= {name: None for name, one, other in pairs if not torch.equal(one, other)}
        return list(found)

    def changed(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Return the names of tensors that have other values."""
        suspects = self.suspects(tensors)
        return [name for name in suspects if not _same(tensors[name], self.copies[name])]


_KEPT: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()


def _kept(module: nn.Module, tensors: Mapping[str, Tensor]) -> _Kept:
    """Return the copy of a network's weights as they are, made anew only where they changed."""
    kept = _KEPT.get(module)
    if kept is None or kept.copies.keys() != tensors.keys():
        kept = _KEPT[module] = _Kept(tensors)
    else:
        kept.take(tensors, kept.suspects(tensors))
    return kept


_Mark = tuple[int, int, int]
"""Identity, address and version of a tensor."""


def _mark(tensor: Tensor) -> _Mark:
    return id(tensor), tensor.data_ptr(), version(tensor)


_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _sample(tensor: Tensor) -> Tensor | None:
    """Return a view of some values of a tensor as integers; None where there is no such view."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    bits = _BITS.get(tensor.element_size())
    if not plain or bits is None or not tensor.numel() or tensor.is_quantized:
        return None
    tensor = tensor.detach()
    # Of its memory in order, whatever its strides: a reshaped tensor may be a copy.
    extent = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    flat = tensor.as_strided((extent,), (1,))
    return flat[:: max(1, extent // _SAMPLED)].view(bits)


def _joined(views: Mapping[torch.dtype, Mapping[str, Tensor]]) -> Tensor:
    """Return views of any dtype as bytes in one tensor, so that one comparison waits for all."""
    found = [torch.cat(list(several.values())).view(torch.uint8) for several in views.values()]
    return torch.cat(found)


def _shown(name: str) -> str:
    return repr(name) if name else "the network"


def _same(tensor: Tensor, copy: Tensor) -> bool:
    if torch.equal(tensor, copy):
        return True
    # A weight that is nan is equal to nothing, not even to itself.
    return tensor.is_floating_point() and torch.equal(tensor.nan_to_num(), copy.nan_to_num())
