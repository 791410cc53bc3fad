"""The gradient of the error at the input."""
