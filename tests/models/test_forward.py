"""The forward pass of a model, and the switch of recomputation."""

from __future__ import annotations

import threading

import torch.utils.checkpoint

from cvx_core.models.forward import _Recomputation


def test_recomputation_is_on_again_when_the_last_thread_is_done() -> None:
    switch, module = _Recomputation(), torch.utils.checkpoint
    before, entered, leave = module.CheckpointFunction, threading.Event(), threading.Event()

    def run() -> None:
        with switch.off():
            entered.set()
            leave.wait(60)

    other = threading.Thread(target=run)
    with switch.off():
        other.start()
        assert entered.wait(60)
        with switch.off():
            pass
        assert module.CheckpointFunction is not before
    assert module.CheckpointFunction is not before, "the other thread still runs"
    leave.set()
    other.join()
    assert module.CheckpointFunction is before
