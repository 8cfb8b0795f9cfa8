"""Routes of the door."""
