"""Conformance of the components that ``--cvx-component`` names, without a test file.

pytest --pyargs cvx_core.testing --cvx-component my-method
"""

from __future__ import annotations

import pytest

from cvx_core.testing.component import options
from cvx_core.testing.component.selection import kit_of

if not options.requested:
    pytest.skip("Pass --cvx-component NAME.", allow_module_level=True)
try:
    # Pytest collects the classes that it finds here.
    globals().update({kit.__name__: kit for kit in map(kit_of, options.requested)})
except pytest.UsageError as error:  # the message alone, without a traceback
    raise pytest.Collector.CollectError(str(error)) from None
