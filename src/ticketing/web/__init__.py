"""Everything that all routes share."""
