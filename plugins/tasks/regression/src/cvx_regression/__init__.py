"""Regression of one or several values as a task."""
