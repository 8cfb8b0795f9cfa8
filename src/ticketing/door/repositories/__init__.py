"""SQL of the door."""
