"""Commands about the installation: ``cvx plugins`` and ``cvx doctor``."""
