"""Rate limits: how often something may be done, and how passwords are protected from guessing."""
