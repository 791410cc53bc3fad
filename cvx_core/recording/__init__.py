"""Record one forward pass, then answer any number of vector-Jacobian products.

needs      what an explainer asks to have recorded
places     a module's output, read as a grid of cells with channels
layout     the places of a network, found from a traced forward
choice     the tests that choose the place to explain at, and those that everything passes
session    the recording itself
held       where the signal itself ends in what is held constant
flows      what each module hands on of an answer, and where something is missing
further    what else a recording answers: attention, constants, replays, pushes forward
suffix     the part of a network after a place, run alone
attending  what can be told of a transformer's attention without its module names
gates      what is held constant in the backward pass, by intercepting functions
rules      how each intercepted function is frozen, taped and replayed, or propagates relevance
pointwise  which products are gates that were written out
hooks      functions called before and after modules, for a while, in one thread
constants  what biases and other constants add to the output
tape       the gates of one forward pass, to replay them at another input
saved      what must not be overwritten before the backward pass
backward   a model's backward pass, with errors of ours

The core puts hooks on models here alone; each acts in its own thread and is removed whatever
happens.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
