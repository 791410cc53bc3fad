"""Kit for commands, those of plugins too: options, console, progress and model loading."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
