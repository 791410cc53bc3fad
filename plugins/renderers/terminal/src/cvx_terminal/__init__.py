"""Half-block pictures and a table in the terminal."""
