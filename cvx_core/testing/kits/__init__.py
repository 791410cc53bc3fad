"""Conformance kit of each kind of component."""
