"""Checks of maps: model randomization."""
