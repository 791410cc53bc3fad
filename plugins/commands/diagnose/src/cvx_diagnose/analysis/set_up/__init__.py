"""Set-up of a run: order of classes, normalization of inputs, missing labels."""
