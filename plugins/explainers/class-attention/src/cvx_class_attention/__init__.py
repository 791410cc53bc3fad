"""Class attention: class activation maps and their relatives."""
