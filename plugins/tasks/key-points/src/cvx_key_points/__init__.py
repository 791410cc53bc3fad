"""Key points as a task."""
