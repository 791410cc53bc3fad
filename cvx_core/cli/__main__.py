"""``python -m cvx_core.cli`` is the same as ``cvx``."""

import sys

from cvx_core.cli import main

sys.exit(main())
