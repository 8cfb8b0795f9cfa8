"""SQL of the feed."""
