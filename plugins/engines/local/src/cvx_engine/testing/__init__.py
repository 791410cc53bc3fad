"""Conformance tests for engines."""
