"""For authors of plugins: samples with known answers, and tests to subclass."""
