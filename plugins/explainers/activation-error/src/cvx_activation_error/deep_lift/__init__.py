"""DeepLIFT: the rescale rule."""
