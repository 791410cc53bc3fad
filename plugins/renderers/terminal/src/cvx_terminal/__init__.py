"""Half-block overlays and tables in the terminal."""
