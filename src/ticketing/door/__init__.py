"""The door: tickets with codes, and who came in. The sale knows nothing of it."""
