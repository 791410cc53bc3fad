"""The version of cvx-core."""

__version__ = "0.1.0"
