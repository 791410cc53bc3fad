"""Slices: sets of inputs that share something and are predicted worse than the others."""
