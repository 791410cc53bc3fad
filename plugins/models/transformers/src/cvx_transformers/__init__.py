"""Classifiers, segmenters and detectors of Hugging Face transformers."""
