"""Multi-label classification as a task."""
