"""Groups of errors with one likely cause."""
