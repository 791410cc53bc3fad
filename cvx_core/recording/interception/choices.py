"""Choices that a network makes for one input and repeats for another: indices, what it detaches.

A detector may consider other candidates for a baseline than for an image. Compared with each other,
they would be other places, so that the baseline is run with the candidates of the image.
"""

from __future__ import annotations

from typing import Any

from cvx_core.recording.interception.function_mode import Interception
from cvx_core.recording.rules.call import Call
from cvx_core.recording.rules.table import FROZEN_GATES
from cvx_core.recording.saved_tensors import Tape

_CHOSEN = {name: FROZEN_GATES[name] for name in ("sort", "topk", "median", "kthvalue")}


def _own(call: Call) -> Any:
    return call.native()


def choosing(mode: Interception) -> Interception:
    """Return a mode that keeps what a network chooses, except by functions that `mode` rules."""
    table = {**dict.fromkeys(mode.rules, _own), **_CHOSEN}
    return Interception(mode.saved, tape=Tape(mode.saved), table=table)


def as_chosen(mode: Interception, choices: Interception) -> Interception:
    """Return a mode with the rules of `mode` in which the network chooses as in `choices`."""
    tape = choices.tape
    assert tape is not None
    tape.seal()
    tape.rewind()
    tape.replaying = True
    return Interception(mode.saved, tape=tape, table={**mode.rules, **_CHOSEN})
