"""Depth and other values for each pixel as a task."""
