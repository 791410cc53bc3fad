"""Reports of a run: an HTML page, and a summary as text."""
