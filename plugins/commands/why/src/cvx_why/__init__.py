"""Why an answer is wrong: regions that were removed, and what became of the error.

Names are imported when they are first used, so that listing the plugin costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
