"""Similarity to images of a gallery, as a task and a model source."""
