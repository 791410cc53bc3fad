"""The classifiers, segmenters and detectors of torchvision."""
