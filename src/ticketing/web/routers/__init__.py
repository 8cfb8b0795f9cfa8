"""Routes of the service itself."""
