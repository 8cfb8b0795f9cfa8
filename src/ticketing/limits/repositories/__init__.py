"""SQL of rate limits."""
