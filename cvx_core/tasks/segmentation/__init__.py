"""TODO tasks/segmentation."""
