"""Text, files and the environment: helpers without a subject of their own."""
