"""The classification models of torchvision."""
