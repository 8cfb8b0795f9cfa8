"""A commit: one statement that writes the decisions about many requests."""
