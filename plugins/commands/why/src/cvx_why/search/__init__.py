"""Search for the regions that cause an error."""
