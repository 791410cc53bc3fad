"""Location attention: activation energy, attention rollout, and what a position reads."""
