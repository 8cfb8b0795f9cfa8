"""A commit: what was decided about many requests, in one statement, and what became of it."""
