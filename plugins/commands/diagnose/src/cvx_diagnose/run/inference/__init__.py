"""Inference on a batch: predictions, error maps and region tests."""
