"""Rate limits, and protection against guessed passwords."""
