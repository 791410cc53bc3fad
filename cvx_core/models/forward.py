"""Forward pass of a module; its exceptions become `ModelError`."""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cvx_core.errors import CvxError, ModelError
from cvx_core.images.prepared_image import FIXED_FRAMES
from cvx_core.plugins.isolation import describe_error, error_boundary


def run_module(module: nn.Module, inputs: Tensor, name: str) -> Any:
    """Return what a module returns for a copy of inputs (B, C, H, W).

    Raises
    ------
    ModelError
        If it raises. Running out of memory passes through, so that the batch can be halved.
    """
    try:
        # Networks may normalize their inputs in place, and others read the same inputs.
        return module(inputs.clone())
    except (torch.OutOfMemoryError, MemoryError, CvxError):
        raise
    # The boundary to the user's network, which may raise anything, and exit.
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{name} failed on an input of shape {tuple(inputs.shape)} "
            f"({str(inputs.dtype).removeprefix('torch.')}, {inputs.device}): "
            f"{describe_error(error)}",
            _way_out(error, module),
        ) from error


def run_readout(readout: Callable[[Any], Any], output: Any) -> Any:
    """Return what a readout finds in what a module returned; its exceptions become `ModelError`.

    Running out of memory passes through.
    """
    kind = type(output).__name__

    def failed(said: str) -> ModelError:
        return ModelError(
            f"The readout failed on the {kind} that the model returned: {said}",
            "Check readout=... of VisionModel, a function from that output to the scores.",
        )

    with error_boundary(failed, (CvxError, torch.OutOfMemoryError, MemoryError)):
        return readout(output)


class BatchAxis:
    """Where the batch is in a tensor that a network returns, found with one image.

    Attributes
    ----------
    is_last
        Whether it is the last of two axes; None while it is unknown.
    """

    def __init__(self) -> None:
        self.is_last: bool | None = None

    def first(self, output: Any, images: int, *, two: bool) -> Any:
        """Return an output with the batch as its first axis, where that is certain.

        Parameters
        ----------
        output
            What the network returned; anything but a tensor is returned as it is.
        images
            How many images it was given.
        two
            Whether the outputs of an image have one axis, so that there are two with the batch.
        """
        if not isinstance(output, Tensor):
            return output
        shape = output.shape
        # (C,) or a number, or (C, h, w).
        if images == 1 and ((len(shape) == 3 and not two) or len(shape) < 2) and shape[:1] != (1,):
            return output[None]
        if not two or len(shape) != 2:
            return output
        if images == 1 and 1 in shape:
            self.is_last = shape[0] != 1
        return output.T if self.is_last else output

    def is_unclear(self, output: Any, images: int, *, two: bool) -> bool:
        """Whether the batch may be the last axis of an output for several images."""
        if not two or self.is_last is not None or not isinstance(output, Tensor):
            return False
        return output.ndim == 2 and output.shape[1] == images


def check_rows(rows: int, images: int) -> None:
    """Refuse outputs for another number of images than were given.

    Raises
    ------
    ModelError
        With both numbers.
    """
    if rows != images:
        raise ModelError(
            f"The first axis of the model's output is {rows} for a batch of {images}.",
            "It must be the batch: return the output so, or pass readout=... to VisionModel.",
        )


def _way_out(error: BaseException, module: nn.Module) -> str:
    reason = str(error)
    if isinstance(error, SystemExit):
        return "It ends the program: raise an error where it calls sys.exit."
    if "nference tensor" in reason:
        return (
            "The forward runs under torch.inference_mode, which records no gradient: remove it, or "
            "use a method that needs none, such as one that perturbs the image."
        )
    if re.search(r"Guard failed: .*size\(\)\[0\]", reason):
        return (
            "The program was exported for one batch size, and cvx runs several images at once: "
            "export it with dynamic_shapes={'x': {0: torch.export.Dim('batch')}}."
        )
    if re.search(r"missing \d+ required positional argument", reason):
        return (
            "forward needs more than the image: fix the rest in a wrapper, a module with "
            "forward(self, x): return self.net(x, self.other)."
        )
    if any(isinstance(part, nn.Conv3d) for part in module.modules()):
        return (
            "Networks of volumes and video are out of scope: cvx explains single images. Explain "
            "one frame in a wrapper that fixes the others: " + FIXED_FRAMES
        )
    return "Check that the input has the size, channels and dtype that the network expects."


def version(tensor: Tensor) -> int:
    """Return a number that changes whenever a tensor is changed in place."""
    # Tensors made under inference_mode have none, and can't change outside it.
    return 0 if tensor.is_inference() else tensor._version


def eager() -> AbstractContextManager[None]:
    """Let compiled and checkpointed parts of a model run once, as the Python they were made from.

    Rules of a backward pass would miss what runs again in it, and reentrant checkpoints refuse one.
    """
    return _Eager()


class _Eager:
    """Context manager that may be entered again, in several threads."""

    def __init__(self) -> None:
        self._stack: list[ExitStack] = []

    def __enter__(self) -> None:
        stack = ExitStack()
        # Nothing can be compiled before this module is imported, and importing it takes seconds.
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if "torch.utils.checkpoint" in sys.modules:
            stack.enter_context(_RECOMPUTATION.off())
        self._stack.append(stack)

    def __exit__(self, *exception: object) -> None:
        self._stack.pop().close()


class _Recomputation:
    """Switch of torch.utils.checkpoint, for the threads that turn it off."""

    def __init__(self) -> None:
        self._lock, self._threads = threading.Lock(), Counter[int]()
        self._found: dict[str, Any] = {}

    @contextmanager
    def off(self) -> Iterator[None]:
        """Run checkpointed functions as they are, in this thread."""
        # Models import `checkpoint` by name, so that only what it looks up itself can be exchanged.
        module, thread = sys.modules["torch.utils.checkpoint"], threading.get_ident()
        with self._lock:
            if not self._threads:
                names = ("CheckpointFunction", "_checkpoint_without_reentrant_generator_impl")
                self._found = {name: vars(module)[name] for name in names if name in vars(module)}
                for name, found in self._found.items():
                    setattr(module, name, self._instead(name, found))
            self._threads[thread] += 1
        try:
            yield
        finally:
            with self._lock:
                self._threads -= Counter([thread])
                if not self._threads:
                    for name, found in self._found.items():
                        setattr(module, name, found)

    def _instead(self, name: str, found: Any) -> Any:
        def is_off() -> bool:
            return threading.get_ident() in self._threads

        class Function:
            @staticmethod
            def apply(function: Any, preserve: bool, *args: Any) -> Any:
                return function(*args) if is_off() else found.apply(function, preserve, *args)

        def plain() -> Iterator[None]:
            yield

        def generator(*args: Any, **kwargs: Any) -> Any:
            return plain() if is_off() else found(*args, **kwargs)

        return Function if name == "CheckpointFunction" else generator


_RECOMPUTATION = _Recomputation()
