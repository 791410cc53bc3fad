"""Record one forward pass, then answer any number of vector-Jacobian products.

needs     what an explainer asks to have recorded
layout    the places of a network and which one to explain at, found from a traced forward
gates     what is held constant in the backward pass, by intercepting functions
saved     what must not be overwritten before the backward pass
tape      the gates of one forward pass, to replay them at another input
session   the recording itself, the only code that puts hooks on a model
"""

from cvx_core.recording.layout import Layout
from cvx_core.recording.needs import Needs
from cvx_core.recording.places import Place
from cvx_core.recording.rules.passage import Propagation
from cvx_core.recording.session import Recording

__all__ = ["Layout", "Needs", "Place", "Propagation", "Recording"]
