"""png, svg and pdf figures with matplotlib."""
