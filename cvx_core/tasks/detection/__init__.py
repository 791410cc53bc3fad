"""Detection: boxes with a class each."""
