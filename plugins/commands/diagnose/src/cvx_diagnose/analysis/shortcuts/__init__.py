"""Shortcuts: patches or positions that cause errors of several classes."""
