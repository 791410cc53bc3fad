from .base import Engine as Engine, Listener as Listener, Work as Work, get_engine as get_engine
from .local import Local as Local
from .pool import (
    DecoderPool as DecoderPool,
    FailedItem as FailedItem,
    end_with_parent as end_with_parent,
    explain_batch as explain_batch,
)
