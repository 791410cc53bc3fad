"""What is asked to have recorded, and which recordings serve whom."""

from __future__ import annotations

import pytest

from cvx_core.recording import Requirements

MORE = {
    "a place": (Requirements("a", "b"), Requirements("a")),
    "a tape": (Requirements("a", gates="frozen", tape=True), Requirements("a", gates="frozen")),
    "attention": (Requirements("a", attention=True), Requirements("a")),
    "attention gradients": (Requirements("a", attention_gradients=True), Requirements("a")),
    "constants": (
        Requirements("a", gates="frozen", constants=True),
        Requirements("a", gates="frozen"),
    ),
}


@pytest.mark.parametrize("what", MORE)
def test_a_recording_serves_who_asks_for_less_and_nobody_who_asks_for_more(what: str) -> None:
    more, less = MORE[what]
    assert more.covers(less)
    assert not less.covers(more)
    assert less.merged(more) == more


def test_gates_are_never_shared() -> None:
    native, frozen = Requirements("a"), Requirements("a", gates="frozen")
    assert not native.covers(frozen)
    assert not frozen.covers(native)
