"""The error propagated back through the activations, conserved."""
