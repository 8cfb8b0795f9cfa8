"""Routes: what happened."""
