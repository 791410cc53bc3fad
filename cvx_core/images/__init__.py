"""Images: reading, regions, preprocessing and its geometry, baselines and resampling."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
