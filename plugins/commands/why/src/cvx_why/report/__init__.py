"""Report on one error: data, text, page and files."""
