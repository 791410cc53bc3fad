"""Faithfulness measures of maps: insertion, deletion, ROAD, completeness, localization and more."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
