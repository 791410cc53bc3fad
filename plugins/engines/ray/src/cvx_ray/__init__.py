"""Engine of a Ray cluster."""
