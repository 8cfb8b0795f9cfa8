"""Routes of the sale."""
