"""Models: modules with their preprocessing, where they come from, and how they run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
