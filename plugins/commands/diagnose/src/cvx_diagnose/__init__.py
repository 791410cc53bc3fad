"""Diagnosis of a model on a whole data set: a row for each input, maps for each error.

Names are imported on first use; `__init__.pyi` lists them with their types.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
