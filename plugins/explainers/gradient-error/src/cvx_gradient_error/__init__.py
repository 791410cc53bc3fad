"""Gradient error: the gradient of the loss or the margin at the input."""
