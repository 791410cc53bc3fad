"""Layer selection: the last grid, the trunk, and the levels of a feature pyramid."""
