"""SQL of everything that all routes share."""
