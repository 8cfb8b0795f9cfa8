"""Rate limits, and protection of passwords from guessing."""
