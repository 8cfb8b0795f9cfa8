"""Routes: the sale."""
