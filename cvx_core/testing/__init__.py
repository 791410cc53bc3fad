"""Conformance kits for authors of plugins: sample models and explanations, tests to subclass."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
