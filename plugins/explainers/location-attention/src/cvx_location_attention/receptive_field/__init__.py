"""What an output position reads, and what an input position affects."""
