"""Analysis of a finished run: metrics, error groups, label issues, shortcuts, fixes."""
