"""One self-contained interactive HTML page."""
