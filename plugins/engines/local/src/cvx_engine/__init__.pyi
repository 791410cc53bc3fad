from .base import Engine as Engine, Listener as Listener, Work as Work, get_engine as get_engine
from .local import Local as Local
from .pool import (
    Decoders as Decoders,
    Mishap as Mishap,
    end_with as end_with,
    explained as explained,
)
