"""Which places speak for a class: class activation maps."""
