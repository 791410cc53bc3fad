"""Where the model looks at all, and what a position reads."""
