"""A model is used in evaluation mode and comes back exactly as it was."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from cvx_core.models.evaluation_mode import evaluation_mode


def mixed() -> nn.Module:
    """A network of which one half is in training mode."""
    net = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))
    net.train()
    net[1].eval()
    return net


def modes(module: nn.Module) -> list[bool]:
    return [m.training for m in module.modules()]


def test_inside_nothing_trains_and_afterwards_the_modes_are_back() -> None:
    net = mixed()
    before = modes(net)
    assert len(set(before)) == 2
    with evaluation_mode(net):
        assert not any(modes(net))
    assert modes(net) == before


def test_the_modes_and_the_random_state_come_back_after_an_exception() -> None:
    net, state = mixed(), torch.get_rng_state()
    before = modes(net)

    def fail() -> None:
        with evaluation_mode(net):
            torch.rand(5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert modes(net) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_uses_inside_each_other_restore_what_the_first_found() -> None:
    net = mixed()
    before = modes(net)
    with evaluation_mode(net):
        with evaluation_mode(net):
            pass
        assert not any(modes(net)), "the inner one must not restore for the outer"
    assert modes(net) == before


def test_of_two_threads_the_last_to_leave_restores() -> None:
    net = mixed()
    before = modes(net)
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with evaluation_mode(net):
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(60)
    with evaluation_mode(net):
        pass
    assert not any(modes(net)), "the other thread still needs evaluation mode"
    leave.set()
    thread.join()
    assert modes(net) == before


def test_two_models_do_not_meet() -> None:
    one, two = mixed(), mixed()
    with evaluation_mode(one):
        assert any(modes(two))
