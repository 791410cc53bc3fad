"""A third party's plugin, installed for the tests of the command line by putting it on the path."""
