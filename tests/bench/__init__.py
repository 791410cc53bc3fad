"""Cost of explanations beside that of the network alone."""
