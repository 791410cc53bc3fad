"""``python -m cvx_core.cli`` is the same as ``cvx``."""

import sys


def main() -> int:
    """Run the command line; Ctrl-C while it is imported ends it without a traceback."""
    try:
        from cvx_core.cli.entry import main as run
    except KeyboardInterrupt:
        print("cvx: interrupted", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
