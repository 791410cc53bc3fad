"""``python -m cvx_core.cli`` is the same as ``cvx``."""

import sys

from cvx_core.cli.entry import main

sys.exit(main())
