"""Search for the regions that cause a mistake."""
