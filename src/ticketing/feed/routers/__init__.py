"""Routes of the feed."""
