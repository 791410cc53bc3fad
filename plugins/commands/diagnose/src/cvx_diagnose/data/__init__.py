"""Data sets: where inputs come from, and how they are decoded."""
