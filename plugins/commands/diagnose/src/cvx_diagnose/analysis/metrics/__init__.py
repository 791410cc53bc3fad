"""Metrics of a run: summary, comparison with another run, TIDE."""
