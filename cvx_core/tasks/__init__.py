"""Tasks: what the output of a model means, predictions, targets, ground truth and mistakes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
