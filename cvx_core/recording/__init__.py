"""Recordings of a model: one forward pass, then any number of vector-Jacobian products.

recording        the recording itself
requirements     the layers to record, and the rules of the backward pass
layers           a network's layers with a spatial grid, found from a traced forward pass
layer_selection  tests that select the layer to explain
interception     functions that the model calls, intercepted to freeze gates or apply rules
rules            how each function is frozen, taped and replayed; the interface of other rules
saved_tensors    tensors that the backward pass and a replay need
conservation     constants, leakage, and the balance of every module
partial_forward  the part of a network behind a layer, run alone
attention        self-attentions and their blocks

Nothing else in the core puts hooks on models. Each hook acts in one thread and is removed, whatever
happens.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
