"""Report on one mistake: data, text, page and files."""
