from .layers.layer import Layer as Layer
from .layers.layout import Layout as Layout
from .recording import Recording as Recording
from .requirements import Requirements as Requirements
from .rules.base import Propagation as Propagation
