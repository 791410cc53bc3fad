"""Label issues: inputs whose label is probably wrong."""
