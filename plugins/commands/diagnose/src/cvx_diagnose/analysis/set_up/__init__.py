"""Findings about the set-up: order of classes, normalization of inputs, missing labels."""
