"""One component of each kind, a plugin for cvx."""
