"""The command ``cvx explain``."""
