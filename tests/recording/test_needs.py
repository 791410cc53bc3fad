"""What is asked to have recorded, and which recordings serve whom."""

from __future__ import annotations

import pytest

from cvx_core.recording import Needs

MORE = {
    "a place": (Needs("a", "b"), Needs("a")),
    "a tape": (Needs("a", gates="frozen", tape=True), Needs("a", gates="frozen")),
    "attention": (Needs("a", attention=True), Needs("a")),
    "attention gradients": (Needs("a", attention_gradients=True), Needs("a")),
    "constants": (Needs("a", gates="frozen", constants=True), Needs("a", gates="frozen")),
}


@pytest.mark.parametrize("what", MORE)
def test_a_recording_serves_who_asks_for_less_and_nobody_who_asks_for_more(what: str) -> None:
    more, less = MORE[what]
    assert more.covers(less)
    assert not less.covers(more)
    assert less.merged(more) == more


def test_gates_are_never_shared() -> None:
    native, frozen = Needs("a"), Needs("a", gates="frozen")
    assert not native.covers(frozen)
    assert not frozen.covers(native)
