"""The user's model is exactly as it was found, whatever happens in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cvx_core.errors import CvxError
from cvx_core.models.evaluation_mode import evaluation_mode
from cvx_core.models.vision_model import VisionModel
from cvx_core.recording import Layout, Requirements
from cvx_core.recording.conservation import constant_part
from cvx_core.recording.layer_selection.selection import open_recording
from cvx_core.testing import models
from cvx_core.testing.kits.explainers import assert_state, state_of, unusual

EVERYTHING = (
    Requirements("input", "auto", attention=True),
    Requirements("input", gates="frozen", tape=True),
    Requirements("auto", gates="frozen", tape=True),
)


def record_everything(model: VisionModel, x: Tensor) -> None:
    """Trace, choose, record, go back and replay."""
    for requirements in EVERYTHING:
        with open_recording(model, x, requirements) as recording:
            seed = torch.ones_like(recording.logits)
            recording.gradients(seed, *requirements.layers)
            if requirements.tape:
                constant_part(recording, requirements.layers[0])


# Every call of the one; of the other, which has many more, every third.
@pytest.mark.parametrize(("build", "step"), [(models.convolutional, 1), (models.tokens, 3)])
def test_an_exception_at_any_call_of_any_module_leaves_the_model_as_found(
    build: Callable[[], VisionModel], step: int
) -> None:
    module = build().module
    unusual(module)
    before = state_of(module)
    calls, fail_at = 0, -1

    def count(_module: nn.Module, _args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == fail_at:
            raise ValueError("made to fail")

    handles = [m.register_forward_pre_hook(count) for m in module.modules()]
    with_hooks = state_of(module)
    record_everything(VisionModel(module), models.inputs(1))
    total = calls
    assert total > 30
    for fail_at in range(1, total + 1, step):  # noqa: B007  `count` reads it
        calls = 0
        with pytest.raises(CvxError, match="made to fail"):
            record_everything(VisionModel(module), models.inputs(1))
        assert_state(with_hooks, state_of(module))
        assert not torch.is_inference_mode_enabled()
    for handle in handles:
        handle.remove()
    assert_state(before, state_of(module))


# Every step of the one, every third of the other.
@pytest.mark.parametrize(("build", "every"), [(models.convolutional, 1), (models.tokens, 3)])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_at_any_step_of_the_backward_pass_leaves_the_model_as_found(
    build: Callable[[], VisionModel], every: int, error: type[BaseException]
) -> None:
    module = build().module
    unusual(module)
    steps, fail_at = 0, -1

    def step(gradient: Tensor) -> None:
        nonlocal steps
        steps += 1
        if steps == fail_at:
            raise error("made to fail")

    def watch(_module: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(step)

    for m in module.modules():
        m.register_forward_hook(watch)
    before = state_of(module)
    record_everything(VisionModel(module), models.inputs(1))
    total = steps
    assert total > 10
    for fail_at in range(1, total + 1, every):  # noqa: B007  `step` reads it
        steps = 0
        # Python's own exceptions pass through the backward pass as they are.
        with pytest.raises(error, match="made to fail"):
            record_everything(VisionModel(module), models.inputs(1))
        assert_state(before, state_of(module))
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


class Interrupting(torch.autograd.Function):
    """Fails on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise KeyboardInterrupt


def test_an_interruption_in_the_backward_pass_leaves_the_model_as_found() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 6), nn.Flatten())
    module.forward = lambda x: Interrupting.apply(module[1](module[0](x)))
    module.train()
    x = torch.rand(1, 3, 6, 6)
    before = state_of(module)
    recording = open_recording(VisionModel(module), x, Requirements("input"))
    with pytest.raises(KeyboardInterrupt), recording:
        recording.gradients(torch.ones_like(recording.logits), "input")
    assert_state(before, state_of(module))


def test_random_numbers_that_the_model_draws_do_not_move_the_caller_s() -> None:
    class Drawing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + torch.rand(1)).flatten(1)

    before = torch.get_rng_state()
    with open_recording(VisionModel(Drawing()), torch.ones(1, 3, 4, 4), Requirements("input")):
        assert not torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)
    Layout.of(VisionModel(Drawing()), torch.zeros(1, 3, 4, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_last_of_several_users_restores_the_modes() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Dropout()).train()
    module[1].eval()
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with evaluation_mode(module):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with evaluation_mode(module):
        thread.start()
        assert inside.wait(10)
    assert not module.training, "the other one is still at work"
    leave.set()
    thread.join()
    assert [m.training for m in module.modules()] == [True, True, False]


def test_a_module_that_is_left_is_not_kept_alive() -> None:
    import weakref

    module = nn.Dropout()
    with evaluation_mode(module):
        pass
    gone = weakref.ref(module)
    del module
    assert gone() is None
