"""The feed: readers of the record of what happened. Commits write it."""
