"""The command ``cvx render``."""
