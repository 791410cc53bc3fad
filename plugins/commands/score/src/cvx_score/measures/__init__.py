"""Measures of faithfulness and localization."""
