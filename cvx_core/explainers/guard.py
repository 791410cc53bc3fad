"""Guard of a model: what an explainer leaves on it is found, undone and named."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

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
        self._modules = dict(model.module.named_modules())
        self._parts = {
            (name, kind): dict(getattr(module, kind))
            for name, module in self._modules.items()
            if not isinstance(module, torch.jit.ScriptModule)
            for kind in _PARTS
        }
        self._forwards = {name: vars(m).get("forward") for name, m in self._modules.items()}
        tensors = {
            f"{name}.{key}".lstrip("."): (kind, tensor)
            for (name, kind), several in self._parts.items()
            for key, tensor in several.items()
            if isinstance(tensor, Tensor)
        }
        self._tensors = {name: tensor for name, (_, tensor) in tensors.items()}
        self._buffers = {name for name, (kind, _) in tensors.items() if kind == "_buffers"}
        self._flags = {
            name: (tensor.requires_grad, tensor.grad)
            for name, tensor in self._tensors.items()
            if name not in self._buffers
        }
        size = sum(tensor.nbytes for tensor in self._tensors.values())
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

    def _hooks(self) -> dict[tuple[str, str], set[int]]:
        return {
            (name, kind): set(getattr(module, kind))
            for name, module in self._modules.items()
            for kind in _HOOKS
        }

    def _undo_hooks(
        self, before: dict[tuple[str, str], set[int]], own: Collection[int]
    ) -> Iterator[str]:
        for (name, kind), ids in before.items():
            hooks = getattr(self._modules[name], kind)
            for key in [key for key in hooks if key not in ids and key not in own]:
                del hooks[key]
                yield (
                    f"a {kind.strip('_').removesuffix('s').replace('_', ' ')} on {_shown(name)}, "
                    "removed"
                )

    def _modes(self) -> dict[str, bool]:
        return {name: module.training for name, module in self._modules.items()}

    def _undo_modes(self, before: dict[str, bool], *, evaluating: bool) -> Iterator[str]:
        for name, module in self._modules.items():
            expected = before[name] and not evaluating
            if module.training != expected:
                module.training = expected
                yield f"the mode of {_shown(name)}, restored"

    def _undo_parts(self) -> Iterator[str]:
        for (name, kind), before in self._parts.items():
            now = getattr(self._modules[name], kind)
            if now.keys() != before.keys() or any(now[key] is not before[key] for key in before):
                keys = [k for k in {**before, **now} if now.get(k) is not before.get(k)]
                now.clear()
                now.update(before)
                yield f"{', '.join(keys)} of {_shown(name)}, put back"
        for name, forward in self._forwards.items():
            own = vars(self._modules[name])
            if own.get("forward") is not forward:
                del self._modules[name].forward
                if forward is not None:
                    setattr(self._modules[name], "forward", forward)  # noqa: B010 - a method
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
    for these a sample of each tensor is compared.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.copies: dict[str, Tensor] = {}
        self._samples: dict[str, Tensor] = {}
        self._versions: dict[str, tuple[int, int]] = {}
        self.take(tensors, tensors)

    def take(self, tensors: Mapping[str, Tensor], names: Iterable[str]) -> None:
        """Copy some of the tensors as they are."""
        for name in names:
            self.copies[name] = tensors[name].detach().clone()
            self._samples[name] = _sample(self.copies[name]).clone()
            self._versions[name] = _version(tensors[name])

    def suspects(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Return the names of tensors that may have changed."""
        return [
            name
            for name, tensor in tensors.items()
            if _version(tensor) != self._versions.get(name)
            or not _same(_sample(tensor), self._samples[name])
        ]

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


def _version(tensor: Tensor) -> tuple[int, int]:
    return id(tensor), version(tensor)


def _sample(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if tensor.layout != torch.strided or tensor.numel() <= _SAMPLED:
        return tensor
    return tensor.reshape(-1)[:: tensor.numel() // _SAMPLED]


def _shown(name: str) -> str:
    return repr(name) if name else "the network"


def _same(tensor: Tensor, copy: Tensor) -> bool:
    if torch.equal(tensor, copy):
        return True
    # A weight that is nan is equal to nothing, not even to itself.
    return tensor.is_floating_point() and torch.equal(tensor.nan_to_num(), copy.nan_to_num())
