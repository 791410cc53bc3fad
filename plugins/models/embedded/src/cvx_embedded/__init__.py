"""EfficientNet-Lite0 with real ImageNet weights, offline."""
